/** What lies on the disk, what is in memory, and what each model consists of. */

import { ask, platform } from "../client.js";
import { fill, h } from "../parts/dom.js";
import { toast } from "../parts/feedback.js";
import { icon } from "../parts/icon.js";
import { memoryBar, statePill } from "../parts/model.js";
import { pageHead } from "../parts/page.js";
import { every, explain, loaded, notice } from "../parts/state.js";
import { windowed } from "../parts/table.js";
import { bytes, compact, count, t } from "../text.js";
import { bench } from "./models/bench.js";
import { pulls } from "./models/pulls.js";

/**
 * @typedef {{ name: string, kind: string, where: string, parameters?: number, size_bytes?: number, context_tokens?: number }} Lying
 * @typedef {{ name: string, type: string, shape: number[] }} Tensor
 */

/** @param {import("../app.js").Visit} visit */
export async function show({ page, rest, signal }) {
  if (rest) return detail(page, rest, signal);
  const body = h("section", { class: "card" });
  const fetched = pulls(signal, async () => again());
  fill(page, pageHead(t("nav.models"), t("models.lead"), fetched.button), h("div", { class: "stack" }, fetched.place, body));
  const look = async (/** @type {AbortSignal} */ until) => {
    const [seen, lying] = await Promise.all([platform(until), ask("/admin/v1/shelf", { signal: until })]);
    return { seen, lying: /** @type {Lying[]} */ (lying) };
  };
  const again = () => loaded(body, look, ({ seen, lying }) => {
    const place = h("div", { class: "scroll" });
    const draw = /** @returns {void} */ (/** @type {import("../client.js").Platform} */ now) => fill(place, table(now, lying, async () => draw(await platform(signal))));
    draw(seen);
    if (seen.managed) every(2000, signal, async () => draw(await platform(signal)));
    return place;
  }, signal);
  await again();
}

/**
 * @param {import("../client.js").Platform} seen
 * @param {Lying[]} lying
 * @param {() => Promise<void>} again
 */
function table(seen, lying, again) {
  const names = [...new Set([...seen.models.map((model) => model.id), ...lying.map((entry) => entry.name)])];
  if (names.length === 0) return notice({ icon: "models", title: t("models.empty"), text: t("models.empty.text") });
  const rows = names.map((name) => {
    const model = seen.models.find((known) => known.id === name);
    const entry = lying.find((known) => known.name === name);
    const broken = entry?.kind.startsWith("unreadable");
    const size = model?.size_bytes ?? entry?.size_bytes;
    return h("tr", {},
      h("td", {}, h("a", { href: `#/models/${encodeURIComponent(name)}` }, name), h("div", { class: "soft" }, broken ? entry?.kind : entry?.where ?? t("models.elsewhere"))),
      h("td", {}, model?.architecture ?? (broken ? "" : entry?.kind)),
      h("td", { class: "right number" }, amount(model?.parameters ?? entry?.parameters)),
      h("td", { class: "right number" }, size === undefined ? "" : bytes(size)),
      h("td", { class: "right number" }, amount(model?.context_tokens ?? entry?.context_tokens)),
      h("td", {}, model ? memoryBar(model) : null),
      h("td", {}, model ? statePill(model) : h("span", { class: broken ? "pill bad" : "pill" }, t(broken ? "model.unreadable" : "model.on_disk"))),
      h("td", { class: "right" }, seen.managed && model ? action(model, again) : null));
  });
  const titles = [t("models.name"), t("models.kind"), t("models.parameters"), t("models.size"), t("models.context"), t("models.memory"), t("models.state"), ""];
  return h("table", { class: "rows" },
    h("thead", {}, h("tr", {}, titles.map((title, at) => title ? h("th", { scope: "col", class: at > 1 && at < 5 ? "right" : null }, title) : h("td", {})))),
    h("tbody", {}, rows));
}

/** @param {number | undefined} number */
function amount(number) {
  return number === undefined ? "" : compact(number);
}

/**
 * @param {import("../client.js").Model} model
 * @param {() => Promise<void>} again
 */
function action(model, again) {
  const isUp = model.state === "loaded";
  const button = h("button", { class: "button small", type: "button", disabled: model.state === "loading" }, t(isUp ? "models.unload" : "models.load"));
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await ask(`/admin/v1/models/${isUp ? "unload" : "load"}`, { method: "POST", body: { model: model.id } });
      await again();
    } catch (error) {
      button.disabled = false;
      toast(explain(error), "bad");
    }
  });
  return button;
}

/**
 * @param {HTMLElement} page
 * @param {string} name
 * @param {AbortSignal} signal
 */
async function detail(page, name, signal) {
  const body = h("div", {});
  const talk = h("a", { class: "button", href: `#/playground/model/${encodeURIComponent(name)}` }, icon("playground"), t("overview.talk"));
  fill(page, h("div", { class: "head" }, h("div", {}, h("a", { class: "back", href: "#/models" }, t("models.back")), h("h1", {}, name)), h("div", { class: "actions" }, talk)), body);
  const look = async (/** @type {AbortSignal} */ until) => {
    const [seen, facts] = await Promise.all([platform(until), ask(`/admin/v1/shelf/${encodeURIComponent(name)}`, { signal: until })]);
    return { model: seen.models.find((one) => one.id === name), facts };
  };
  await loaded(body, look, ({ model, facts }) => {
    talk.hidden = !model?.generates;
    return h("div", { class: "stack" }, model?.generates ? bench(model, signal) : "", sheet(facts), tensors(facts.tensors ?? []));
  }, signal);
}

/** @param {Record<string, unknown>} facts */
function sheet(facts) {
  const rows = Object.entries(facts).filter(([name]) => name !== "tensors" && name !== "name").flatMap(([name, value]) => [
    h("dt", {}, name.replaceAll("_", " ")),
    h("dd", {}, name.endsWith("bytes") && typeof value === "number" ? bytes(value) : typeof value === "number" ? count(value) : typeof value === "object" ? JSON.stringify(value).replace(/["{}[\]]/g, "").replaceAll(",", ", ").replaceAll(":", ": ") : String(value)),
  ]);
  return h("section", { class: "card" }, h("header", {}, h("h2", {}, t("models.config"))), h("dl", { class: "inside facts two" }, rows));
}

/** @param {Tensor[]} all */
function tensors(all) {
  const list = windowed({
    label: t("models.tensors"), widths: "minmax(12rem, 1fr) 6rem 10rem",
    columns: [{ title: t("models.tensor") }, { title: t("models.type") }, { title: t("models.shape"), right: true }],
    cells: (/** @type {Tensor} */ tensor) => [h("span", { class: "mono" }, tensor.name), tensor.type, tensor.shape.join(" × ")],
  });
  const filter = h("input", { class: "input", type: "search", placeholder: t("models.filter"), "aria-label": t("models.filter") });
  filter.addEventListener("input", () => list.set(all.filter((tensor) => tensor.name.includes(filter.value))));
  list.set(all);
  return h("section", { class: "card" }, h("header", {}, h("h2", {}, t("models.tensors")), h("span", { class: "pill" }, count(all.length)), h("div", { class: "filter" }, filter)), list.element);
}
