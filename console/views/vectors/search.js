/** The search of an index: by meaning, by words, or by a vector. */

import { h } from "../../parts/dom.js";
import { choice, field } from "../../parts/form.js";
import { icon } from "../../parts/icon.js";
import { explain } from "../../parts/state.js";
import { count, t } from "../../text.js";

/**
 * What is asked for. `field`: the metadata that is searched by words.
 *
 * @typedef {{ text: string } | { text: string, field: string } | { vector: number[] }} Wish
 */

/**
 * @param {import("./api.js").Index} facts
 * @param {(wish: Wish, filter: unknown) => Promise<void>} near
 */
export function search(facts, near) {
  const fields = facts.metadataConfiguration?.textSearchConfigurations?.map((one) => one.metadataKey) ?? [];
  const ways = [{ value: "vector", label: t("vectors.by.vector") }, { value: "meaning", label: t("vectors.by.meaning") },
    ...fields.map((name) => ({ value: `words:${name}`, label: t("vectors.by.words", { field: name }) }))];
  const isKept = ways.some((way) => way.value === sessionStorage.getItem("sampan.search"));
  let way = isKept ? sessionStorage.getItem("sampan.search") ?? "vector" : "vector";
  const what = h("textarea", { class: "input code", rows: 3, required: true, spellcheck: "false" });
  const named = field(t("vectors.vector", { dimension: count(facts.dimension) }), what);
  const turn = (/** @type {string} */ next) => {
    way = next;
    sessionStorage.setItem("sampan.search", way);
    what.placeholder = way === "vector" ? "[0.1, 0.2, …]" : t("vectors.by.hint");
    const label = named.querySelector("label");
    if (label) label.textContent = way === "vector" ? t("vectors.vector", { dimension: count(facts.dimension) }) : t("vectors.text");
  };
  turn(way);
  const filter = h("input", { class: "input code", spellcheck: "false", placeholder: '{"year": {"$gte": 2020}}' });
  const fault = h("p", { class: "fault", role: "alert" });
  const form = h("form", { class: "card inside planner single" }, field(t("vectors.by"), choice(ways, way, turn)), named, field(t("vectors.filter"), filter), fault,
    h("button", { class: "button", type: "submit" }, icon("search"), t("vectors.query")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const rule = filter.value.trim() ? JSON.parse(filter.value) : null;
      fault.textContent = "";
      if (way === "vector") await near({ vector: JSON.parse(what.value) }, rule);
      else await near(way === "meaning" ? { text: what.value } : { text: what.value, field: way.slice("words:".length) }, rule);
    } catch (error) {
      fault.textContent = explain(error);
    }
  });
  return form;
}
