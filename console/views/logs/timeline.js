/** One request from its arrival to its end: waiting, reading the prompt, and every step of the answer. */

import { h, s } from "../../parts/dom.js";
import { card } from "../../parts/page.js";
import { count, duration, t } from "../../text.js";

/** @typedef {import("../../client.js").Seen} Seen */
/** @typedef {import("../../client.js").Steps} Steps */

/** The drawing of the steps, in its own units. */
const WIDTH = 1000;
const HEIGHT = 72;

/** @type {Record<Seen["state"], import("../../text.js").TextKey>} */
export const STATES = {
  waiting: "logs.waiting", computing: "logs.computing", generating: "logs.generating", finished: "logs.finished",
  refused: "logs.refused", failed: "logs.failed", left: "logs.left",
};

/** @param {Seen["state"]} state */
export function pill(state) {
  const mood = state === "finished" ? "pill good" : state === "refused" || state === "failed" ? "pill bad" : state === "left" ? "pill" : "pill warn";
  return h("span", { class: mood }, t(STATES[state]));
}

/**
 * Where the time went.
 *
 * @param {Seen} request
 * @param {Steps | null} steps
 */
export function timeline(request, steps) {
  const taken = request.accepted_us;
  const first = request.first_token_us;
  const end = request.over_us ?? Math.max(taken ?? 0, first ?? 0);
  const spans = [
    { name: t("logs.queue"), from: 0, to: taken ?? end, hue: 5 },
    { name: t("logs.prefill"), from: taken ?? end, to: taken === null ? end : first ?? end, hue: 3 },
    { name: t("logs.decode"), from: first ?? end, to: end, hue: 1 },
  ];
  const lines = spans.map((span) => {
    const part = h("i");
    part.style.marginLeft = `${end > 0 ? (100 * span.from) / end : 0}%`;
    part.style.width = `${end > 0 ? Math.max(0.4, (100 * (span.to - span.from)) / end) : 0}%`;
    part.style.background = `var(--data-${span.hue})`;
    return h("li", {}, h("span", {}, span.name), h("div", { class: "track" }, span.to > span.from ? part : null), h("span", { class: "number" }, duration((span.to - span.from) / 1000)));
  });
  const written = Math.max(0, request.output_tokens - 1);
  const speed = first !== null && request.over_us !== null && written > 0 ? (1e6 * written) / Math.max(1, request.over_us - first) : null;
  /** @type {[string, string | Node | null][]} */
  const facts = [
    [t("logs.id"), h("span", { class: "mono" }, request.id)], [t("models.state"), pill(request.state)], [t("playground.model"), request.model],
    [t("logs.route"), request.route], [t("logs.prompt"), count(request.prompt_tokens)], [t("logs.cached"), count(request.cached_tokens)],
    [t("logs.output"), count(request.output_tokens)], [t("overview.speed"), speed === null ? null : count(speed)],
    [t("usage.project"), request.project], [t("usage.key"), request.key], [t("logs.reason"), request.reason],
  ];
  return card(t("logs.timeline"), [], h("div", { class: "inside stack" },
    h("ul", { class: "timeline" }, lines),
    steps && steps.at_us.length > 1 ? decoding(steps) : null,
    h("dl", { class: "facts two" }, facts.filter(([, value]) => value !== null).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))));
}

/**
 * How long each piece of the answer took, from the first to the last; the longest pause is marked.
 *
 * @param {Steps} steps
 */
function decoding(steps) {
  const [from, to] = [steps.at_us[0] ?? 0, steps.at_us.at(-1) ?? 0];
  const whole = Math.max(1, to - from);
  const gaps = steps.at_us.slice(1).map((at, index) => ({ from: steps.at_us[index] ?? 0, to: at, each: (at - (steps.at_us[index] ?? 0)) / steps.every }));
  const most = Math.max(1, steps.longest_us, ...gaps.map((gap) => gap.each));
  const across = (/** @type {number} */ at) => (WIDTH * (at - from)) / whole;
  const columns = gaps.map((gap) => {
    const height = Math.max(1, (HEIGHT * gap.each) / most);
    return s("rect", { x: across(gap.from).toFixed(1), y: (HEIGHT - height).toFixed(1), width: Math.max(0.6, across(gap.to) - across(gap.from) - 0.6).toFixed(1), height: height.toFixed(1) });
  });
  const sorted = gaps.map((gap) => gap.each).sort((left, right) => left - right);
  const middle = duration((sorted[sorted.length >> 1] ?? 0) / 1000);
  const longest = duration(steps.longest_us / 1000);
  const words = t("logs.steps.text", { count: count(steps.pieces), middle, longest, at: duration(steps.longest_at_us / 1000) });
  const mark = Math.min(WIDTH, Math.max(0, across(steps.longest_at_us)));
  return h("figure", { class: "steps" },
    h("figcaption", {}, h("b", {}, t("logs.steps")), " ", h("span", { class: "soft" }, words)),
    s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": words },
      columns, s("line", { x1: mark, x2: mark, y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke" })));
}
