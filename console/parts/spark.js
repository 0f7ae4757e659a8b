/** A small line over time. */

import { fill, s } from "./dom.js";

/** Values that are kept. */
const VALUES_MAX = 60;

/** @param {string} label */
export function spark(label) {
  /** @type {number[]} */
  const values = [];
  const element = s("svg", { class: "chart spark", viewBox: "0 0 240 48", preserveAspectRatio: "none", role: "img", "aria-label": label });
  /** @param {number} value */
  const push = (value) => {
    values.push(value);
    if (values.length > VALUES_MAX) values.shift();
    const most = Math.max(1, ...values);
    const step = 240 / (VALUES_MAX - 1);
    const first = 240 - (values.length - 1) * step;
    const points = values.map((at, index) => `${(first + index * step).toFixed(1)},${(46 - (at / most) * 42).toFixed(1)}`);
    fill(element,
      s("path", { d: `M${first.toFixed(1)},48 L${points.join(" L")} L240,48 Z`, fill: "var(--accent-soft)" }),
      s("polyline", { points: points.join(" "), fill: "none", stroke: "var(--accent)", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke", "stroke-linejoin": "round" }));
  };
  return { element, push };
}
