/** One index: its vectors in a table and on a plane, a search, an import. */

import { fill, h, s } from "../../parts/dom.js";
import { openDialog, toast } from "../../parts/feedback.js";
import { field } from "../../parts/form.js";
import { icon } from "../../parts/icon.js";
import { explain, loaded, notice } from "../../parts/state.js";
import { windowed } from "../../parts/table.js";
import { count, t } from "../../text.js";
import { head } from "../vectors.js";
import { importLines, index, query, vectors } from "./api.js";
import { project } from "./project.js";

/** Vectors that are browsed. */
const BROWSED_MAX = 5000;
/** Vectors that are drawn. */
const DRAWN_MAX = 800;

/** @typedef {import("./api.js").Vector} Vector */

/**
 * @param {HTMLElement} page
 * @param {string} bucket
 * @param {string} name
 * @param {AbortSignal} signal
 */
export async function showIndex(page, bucket, name, signal) {
  const body = h("div", {});
  const file = h("input", { type: "file", accept: ".jsonl,.ndjson,application/x-ndjson", hidden: true });
  const add = h("button", { class: "button first", type: "button", onclick: () => file.click() }, icon("plus"), t("vectors.import"));
  const look = () => loaded(body, async (until) => ({ facts: await index(bucket, name, until), list: await vectors(bucket, name, BROWSED_MAX, until) }),
    ({ facts, list }) => draw(bucket, name, facts, list), signal);
  file.addEventListener("change", async () => {
    const chosen = file.files?.[0];
    file.value = "";
    if (chosen && (await bringIn(bucket, name, chosen, add)) && !signal.aborted) await look();
  });
  fill(page, head(name, t("vectors.index.lead"), h("div", { class: "actions" }, file, add), h("a", { class: "back", href: `#/vectors/${bucket}` }, bucket)), body);
  await look();
}

/**
 * @param {string} bucket
 * @param {string} name
 * @param {File} chosen
 * @param {HTMLButtonElement} button shows how far it is
 */
async function bringIn(bucket, name, chosen, button) {
  button.disabled = true;
  try {
    const all = await importLines(bucket, name, await chosen.text(), (share) => { button.lastChild?.replaceWith(`${Math.round(100 * share)} %`); });
    toast(t("vectors.imported", { count: count(all) }));
    return true;
  } catch (error) {
    toast(explain(error), "bad");
    return false;
  } finally {
    button.disabled = false;
    button.lastChild?.replaceWith(t("vectors.import"));
  }
}

/**
 * @param {string} bucket
 * @param {string} name
 * @param {import("./api.js").Index} facts
 * @param {Vector[]} list
 */
function draw(bucket, name, facts, list) {
  const about = t("vectors.facts", { dimension: count(facts.dimension), metric: facts.distanceMetric });
  if (list.length === 0) return h("section", { class: "card" }, notice({ icon: "vectors", title: t("vectors.index.empty"), text: t("vectors.index.empty.text", { dimension: facts.dimension }) }));
  const table = windowed({
    label: name, widths: "minmax(7rem, 1fr) minmax(8rem, 2fr) 6rem",
    columns: [{ title: t("vectors.key") }, { title: t("vectors.metadata") }, { title: t("vectors.distance"), right: true }],
    cells: (/** @type {Vector} */ vector) => [h("span", { class: "mono" }, vector.key), JSON.stringify(vector.metadata ?? {}), vector.distance === undefined ? "" : vector.distance.toFixed(4)],
    open: (vector) => detail(vector, near),
  });
  table.set(list);
  const found = h("span", { class: "pill" }, count(list.length));
  const near = async (/** @type {number[]} */ vector, /** @type {unknown} */ filter = null) => {
    try {
      const hits = await query(bucket, name, vector, filter);
      table.set(hits);
      found.textContent = t("vectors.nearest", { count: count(hits.length) });
    } catch (error) {
      toast(explain(error), "bad");
    }
  };
  const back = h("button", { class: "button small", type: "button", onclick: () => { table.set(list); found.textContent = count(list.length); } }, t("vectors.all"));
  return h("div", { class: "split" },
    h("section", { class: "card" }, h("header", {}, h("h2", {}, t("nav.vectors")), found, back), table.element),
    h("div", { class: "stack" }, search(facts, near), h("section", { class: "card" }, h("header", {}, h("h2", {}, t("vectors.picture")), h("span", { class: "pill" }, about)), plane(list))));
}

/**
 * @param {Vector} vector
 * @param {(vector: number[]) => void} near
 */
function detail(vector, near) {
  const numbers = vector.data?.float32;
  const like = numbers ? h("button", { class: "button first", type: "button", onclick: () => { dialog.close(); near(numbers); } }, icon("search"), t("vectors.similar")) : "";
  const dialog = openDialog({ title: vector.key }, h("div", { class: "snippet" }, h("pre", { tabindex: 0 }, JSON.stringify(vector.metadata ?? {}, null, 2))),
    h("p", { class: "soft mono" }, numbers ? `[${numbers.slice(0, 12).map((value) => value.toFixed(3)).join(", ")}${numbers.length > 12 ? ", …" : ""}]` : ""), h("div", { class: "actions" }, like));
}

/**
 * @param {import("./api.js").Index} facts
 * @param {(vector: number[], filter: unknown) => Promise<void>} near
 */
function search(facts, near) {
  const vector = h("textarea", { class: "input code", rows: 3, required: true, spellcheck: "false", placeholder: "[0.1, 0.2, …]" });
  const filter = h("input", { class: "input code", spellcheck: "false", placeholder: '{"year": {"$gte": 2020}}' });
  const fault = h("p", { class: "fault", role: "alert" });
  const form = h("form", { class: "card inside planner single" }, field(t("vectors.vector", { dimension: facts.dimension }), vector), field(t("vectors.filter"), filter), fault,
    h("button", { class: "button", type: "submit" }, icon("search"), t("vectors.query")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const numbers = JSON.parse(vector.value);
      const rule = filter.value.trim() ? JSON.parse(filter.value) : null;
      fault.textContent = "";
      await near(numbers, rule);
    } catch (error) {
      fault.textContent = explain(error);
    }
  });
  return form;
}

/** @param {Vector[]} list */
function plane(list) {
  const drawn = list.filter((vector) => vector.data).slice(0, DRAWN_MAX);
  const places = project(drawn.map((vector) => vector.data?.float32 ?? []));
  const points = places.map(({ x, y }, at) => s("circle", { cx: 12 + x * 376, cy: 12 + y * 256, r: 3.2, fill: "var(--accent)", "fill-opacity": 0.62 }, s("title", {}, drawn[at]?.key)));
  return h("div", { class: "inside" }, s("svg", { class: "chart", viewBox: "0 0 400 280", role: "img", "aria-label": t("vectors.picture.label", { count: count(drawn.length) }) }, points),
    h("p", { class: "soft" }, t("vectors.picture.label", { count: count(drawn.length) })));
}
