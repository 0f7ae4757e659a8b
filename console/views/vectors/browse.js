/** One index: its vectors in a table and on a plane, a search, an import. */

import { fill, h, s } from "../../parts/dom.js";
import { openDialog, toast } from "../../parts/feedback.js";
import { icon } from "../../parts/icon.js";
import { explain, loaded, notice } from "../../parts/state.js";
import { windowed } from "../../parts/table.js";
import { count, t } from "../../text.js";
import { head } from "../vectors.js";
import { index, query, vectors } from "./api.js";
import { bring } from "./bring.js";
import { counters } from "./counters.js";
import { project } from "./project.js";
import { search } from "./search.js";

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
  const look = () => loaded(body, async (until) => ({ facts: await index(bucket, name, until), list: await vectors(bucket, name, BROWSED_MAX, until) }),
    ({ facts, list }) => draw(bucket, name, facts, list, counted.element), signal);
  const counted = counters(bucket, name, signal);
  const { button, place } = bring(bucket, name, signal, async () => {
    await Promise.all([look(), counted.look().catch(() => {})]);
  });
  fill(page, head(name, t("vectors.index.lead"), button, h("a", { class: "back", href: `#/vectors/${bucket}` }, bucket)), place, body);
  await look();
}

/**
 * @param {string} bucket
 * @param {string} name
 * @param {import("./api.js").Index} facts
 * @param {Vector[]} list
 * @param {HTMLElement} counted
 */
function draw(bucket, name, facts, list, counted) {
  const about = t("vectors.facts", { dimension: count(facts.dimension), metric: facts.distanceMetric });
  if (list.length === 0) return h("section", { class: "card" }, notice({ icon: "vectors", title: t("vectors.index.empty"), text: t("vectors.index.empty.text", { dimension: facts.dimension }) }));
  const table = windowed({
    label: name, widths: "minmax(7rem, 1fr) minmax(8rem, 2fr) 6rem",
    columns: [{ title: t("vectors.key") }, { title: t("vectors.metadata") }, { title: t("vectors.distance"), right: true }],
    cells: (/** @type {Vector} */ vector) => [h("span", { class: "mono" }, vector.key), JSON.stringify(vector.metadata ?? {}), nearness(vector)],
    open: (vector) => detail(vector, (numbers) => near({ vector: numbers }, null).catch((error) => toast(explain(error), "bad"))),
  });
  table.set(list);
  const found = h("span", { class: "pill" }, count(list.length));
  const picture = plane(list);
  const near = async (/** @type {import("./search.js").Wish} */ wish, /** @type {unknown} */ filter) => {
    const hits = await query(bucket, name, wish, filter);
    table.set(hits);
    picture.mark(new Set(hits.map((hit) => hit.key)));
    found.textContent = t("vectors.nearest", { count: count(hits.length) });
  };
  const all = () => {
    table.set(list);
    picture.mark(new Set());
    found.textContent = count(list.length);
  };
  const back = h("button", { class: "button small", type: "button", onclick: all }, t("vectors.all"));
  return h("div", { class: "split" },
    h("div", { class: "stack" }, h("section", { class: "card" }, h("header", {}, h("h2", {}, t("nav.vectors")), found, back), table.element), counted),
    h("div", { class: "stack" }, search(facts, near), h("section", { class: "card" }, h("header", {}, h("h2", {}, t("vectors.picture")), h("span", { class: "pill" }, about)), picture.element)));
}

/** A distance, or a score where words were searched. @param {Vector} vector */
function nearness(vector) {
  const score = vector.scores?.bm25Scores?.[0]?.score;
  return (vector.distance ?? score)?.toFixed(4) ?? "";
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

/** @param {Vector[]} list */
function plane(list) {
  const drawn = list.filter((vector) => vector.data).slice(0, DRAWN_MAX);
  const places = project(drawn.map((vector) => vector.data?.float32 ?? []));
  const label = t("vectors.picture.label", { count: count(drawn.length) });
  const points = places.map(({ x, y }, at) => s("circle", { cx: 12 + x * 376, cy: 12 + y * 256, r: 3.2 }, s("title", {}, drawn[at]?.key)));
  const drawing = s("svg", { class: "chart plane", viewBox: "0 0 400 280", role: "img", "aria-label": label }, points);
  /** @param {Set<string>} keys those that were found; none: all are alike */
  const mark = (keys) => {
    drawing.classList.toggle("searched", keys.size > 0);
    points.forEach((point, at) => {
      const isFound = keys.has(drawn[at]?.key ?? "");
      point.classList.toggle("found", isFound);
      if (isFound) drawing.append(point);
    });
  };
  return { element: h("div", { class: "inside" }, drawing, h("p", { class: "soft" }, label)), mark };
}
