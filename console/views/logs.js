/** What is asked of the models, while it is asked; and one request from its arrival to its end. Never what was said. */

import { recentRequests, requestSteps, tailRequests } from "../client.js";
import { fill, h } from "../parts/dom.js";
import { choice } from "../parts/form.js";
import { icon } from "../parts/icon.js";
import { card, pageHead } from "../parts/page.js";
import { every, loaded, notice } from "../parts/state.js";
import { windowed } from "../parts/table.js";
import { clockTime, count, duration, t } from "../text.js";
import { STATES, pill, timeline } from "./logs/timeline.js";

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
      look(request);
    },
  });
  /** @type {Seen | null} */
  let looked = null;
  /** @param {Seen} request */
  const look = async (request) => {
    looked = request;
    fill(detail, timeline(request, null));
    // An old one is forgotten by the server; its times of arrival are still known here.
    const whole = await requestSteps(request.id, signal).catch(() => null);
    if (looked === request && whole) fill(detail, timeline(request, whole));
  };
  const refresh = () => {
    const all = [...known.values()].sort((left, right) => right.arrived_at_ms - left.arrived_at_ms);
    const rows = all.filter((request) => fits(request, words, state));
    amount.textContent = t("logs.shown", { shown: count(rows.length), all: count(all.length) });
    list.set(rows, rows.findIndex((request) => request.id === opened));
    fill(place, all.length === 0 ? nothing() : rows.length === 0 ? notice({ icon: "search", title: t("logs.none") }) : list.element);
    const request = known.get(opened);
    if (request && request !== looked) look(request);
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
