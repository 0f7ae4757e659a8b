/** What is asked of the models, while it is asked; and one request from its arrival to its end. Never what was said. */

import { recentRequests, tailRequests } from "../client.js";
import { fill, h } from "../parts/dom.js";
import { choice } from "../parts/form.js";
import { icon } from "../parts/icon.js";
import { card, pageHead } from "../parts/page.js";
import { every, loaded, notice } from "../parts/state.js";
import { windowed } from "../parts/table.js";
import { clockTime, count, duration, t } from "../text.js";

/** How often requests that are on their way are asked for, in milliseconds. */
const LOOK_MS = 2000;
/** Milliseconds until a tail that broke off is tried again. */
const AGAIN_MS = 3000;
/** Requests that a page keeps. */
const KEPT_MAX = 50_000;

/** @typedef {import("../client.js").Seen} Seen */

/** @param {import("../app.js").Visit} visit */
export async function show({ page, rest, signal }) {
  const body = h("div", {});
  fill(page, pageHead(t("nav.logs"), t("logs.lead")), body);
  await loaded(body, recentRequests, (first) => draw(first, rest, signal), signal);
}

/**
 * @param {Seen[]} first newest first
 * @param {string} wanted the request to open
 * @param {AbortSignal} signal
 */
function draw(first, wanted, signal) {
  /** @type {Map<string, Seen>} */
  const known = new Map();
  let opened = wanted;
  let words = "";
  let state = "";
  let isPaused = false;
  const detail = h("div", {});
  const place = h("div", {});
  const amount = h("span", { class: "pill" });
  const list = windowed({
    label: t("nav.logs"), widths: "5.5rem 7rem minmax(8rem, 1fr) minmax(8rem, 1fr) 6rem 6rem 6rem",
    columns: [{ title: t("logs.time") }, { title: t("models.state") }, { title: t("playground.model") }, { title: t("logs.route") },
      { title: t("logs.tokens"), right: true }, { title: t("logs.first"), right: true }, { title: t("logs.whole"), right: true }],
    cells: row,
    open: (request) => {
      opened = request.id;
      fill(detail, timeline(request));
    },
  });
  const refresh = () => {
    const all = [...known.values()].sort((left, right) => right.arrived_at_ms - left.arrived_at_ms);
    const rows = all.filter((request) => fits(request, words, state));
    amount.textContent = t("logs.shown", { shown: count(rows.length), all: count(all.length) });
    list.set(rows, rows.findIndex((request) => request.id === opened));
    fill(place, all.length === 0 ? nothing() : rows.length === 0 ? notice({ icon: "search", title: t("logs.none") }) : list.element);
    const request = known.get(opened);
    if (request) fill(detail, timeline(request));
  };
  /** @param {Seen[]} news */
  const learn = (news) => {
    for (const request of news) known.set(request.id, request);
    for (const id of known.keys()) {
      if (known.size <= KEPT_MAX) break;
      known.delete(id);
    }
    if (!isPaused) refresh();
  };
  const filter = h("input", { class: "input", type: "search", placeholder: t("logs.filter"), "aria-label": t("logs.filter") });
  filter.addEventListener("input", () => {
    words = filter.value.toLowerCase();
    refresh();
  });
  const states = choice([{ value: "", label: t("logs.every") }, ...Object.entries(STATES).map(([value, key]) => ({ value, label: t(key) }))], "",
    (value) => { state = value; refresh(); }, { "aria-label": t("models.state") });
  const pause = h("button", { class: "button small", type: "button", "aria-pressed": "false" }, t("logs.pause"));
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    pause.textContent = t(isPaused ? "logs.go" : "logs.pause");
    if (!isPaused) refresh();
  });
  learn([...first].reverse());
  every(LOOK_MS, signal, async () => learn((await recentRequests(signal)).reverse()));
  follow(signal, (request) => learn([request]));
  const bar = h("div", { class: "filters" }, filter, states, pause);
  return h("div", { class: "stack" }, card(t("logs.requests"), [amount, bar], place), detail);
}

/**
 * Hears of requests that end, and listens again when the tail breaks off.
 *
 * @param {AbortSignal} signal
 * @param {(request: Seen) => void} heard
 */
async function follow(signal, heard) {
  while (!signal.aborted) {
    try {
      for await (const request of tailRequests(signal)) heard(request);
    } catch {
      // The regular look shows what a person must know; the tail only makes it quicker.
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

function nothing() {
  return notice({
    icon: "logs", title: t("logs.empty"), text: t("logs.empty.text"),
    action: h("a", { class: "button first", href: "#/playground" }, icon("playground"), t("overview.talk")),
  });
}

/** @type {Record<Seen["state"], import("../text.js").TextKey>} */
const STATES = {
  waiting: "logs.waiting", computing: "logs.computing", generating: "logs.generating", finished: "logs.finished",
  refused: "logs.refused", failed: "logs.failed", left: "logs.left",
};

/** @param {Seen["state"]} state */
function pill(state) {
  const mood = state === "finished" ? "pill good" : state === "refused" || state === "failed" ? "pill bad" : state === "left" ? "pill" : "pill warn";
  return h("span", { class: mood }, t(STATES[state]));
}

/** @param {Seen} request */
function row(request) {
  return [
    clockTime(request.arrived_at_ms), pill(request.state), request.model, request.route,
    request.prompt_tokens ? `${count(request.prompt_tokens)} → ${count(request.output_tokens)}` : "",
    request.first_token_us === null ? "" : duration(request.first_token_us / 1000),
    request.over_us === null ? "" : duration(request.over_us / 1000),
  ];
}

/**
 * @param {Seen} request
 * @param {string} words
 * @param {string} state
 */
function fits(request, words, state) {
  const text = `${request.id} ${request.model} ${request.route} ${request.project ?? ""} ${request.key ?? ""} ${request.reason ?? ""}`.toLowerCase();
  return (state === "" || request.state === state) && words.split(/\s+/).every((word) => text.includes(word));
}

/**
 * Waiting, reading the prompt, writing the answer: where the time went.
 *
 * @param {Seen} request
 */
export function timeline(request) {
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
  const steps = Math.max(0, request.output_tokens - 1);
  const speed = first !== null && request.over_us !== null && steps > 0 ? (1e6 * steps) / Math.max(1, request.over_us - first) : null;
  /** @type {[string, string | Node | null][]} */
  const facts = [
    [t("logs.id"), h("span", { class: "mono" }, request.id)], [t("models.state"), pill(request.state)], [t("playground.model"), request.model],
    [t("logs.route"), request.route], [t("logs.prompt"), count(request.prompt_tokens)], [t("logs.cached"), count(request.cached_tokens)],
    [t("logs.output"), count(request.output_tokens)], [t("overview.speed"), speed === null ? null : count(speed)],
    [t("usage.project"), request.project], [t("usage.key"), request.key], [t("logs.reason"), request.reason],
  ];
  return card(t("logs.timeline"), [], h("div", { class: "inside stack" },
    h("ul", { class: "timeline" }, lines),
    h("dl", { class: "facts two" }, facts.filter(([, value]) => value !== null).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))));
}
