/** Bars over time, one colour a name. The same numbers stand in a table beside every chart. */

import { fill, h, s } from "./dom.js";

/** Names that have a colour of their own; the others are shown together. */
export const COLOURS = 5;
const WIDTH = 1000;
const HEIGHT = 210;
const LEFT = 4;
const BELOW = 22;

/**
 * @typedef {object} Bars
 * @property {string} label
 * @property {{ start: number, name: string, values: number[] }[]} steps from left to right, a value a series
 * @property {string[]} series
 * @property {(value: number) => string} say
 * @property {(start: number) => void} [open] a bar was pressed
 */

/**
 * @param {Bars} options
 * @returns {HTMLElement}
 */
export function bars({ label, steps, series, say, open }) {
  const sums = steps.map((step) => step.values.reduce((all, value) => all + value, 0));
  const most = Math.max(...sums, 0);
  const width = (WIDTH - LEFT) / Math.max(1, steps.length);
  const scale = most > 0 ? (HEIGHT - BELOW - 20) / most : 0;
  const drawing = s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  const foot = HEIGHT - BELOW;
  const every = Math.ceil(steps.length / 10);
  drawing.append(s("line", { x1: LEFT, x2: WIDTH, y1: foot, y2: foot, stroke: "var(--edge-strong)" }), s("text", { x: LEFT, y: 12 }, say(most)));
  steps.forEach((step, at) => {
    const left = LEFT + at * width;
    const group = s("g", { class: open ? "open" : null });
    group.append(s("title", {}, `${step.name}: ${say(sums[at] ?? 0)}`), s("rect", { x: left, y: 16, width, height: foot - 16, fill: "transparent" }));
    let top = foot;
    step.values.forEach((value, index) => {
      const height = value * scale;
      top -= height;
      if (height > 0) group.append(s("rect", { x: left + width * 0.14, y: top, width: width * 0.72, height, rx: Math.min(2, width / 8), fill: colour(index) }));
    });
    if (open) group.addEventListener("click", () => open(step.start));
    if (at % every === 0) group.append(s("text", { x: left + width / 2, y: HEIGHT - 6, "text-anchor": "middle" }, step.name));
    drawing.append(group);
  });
  const legend = h("div", { class: "legend" });
  if (series.length > 1) fill(legend, series.map((name, index) => named(name, index)));
  return h("div", { class: "inside" }, drawing, legend);
}

/** @param {number} index */
function colour(index) {
  return `var(--data-${Math.min(index, COLOURS - 1) + 1})`;
}

/**
 * @param {string} name
 * @param {number} index
 */
function named(name, index) {
  const mark = h("i", { class: "mark" });
  mark.style.background = colour(index);
  return h("span", { class: "series" }, mark, name);
}
