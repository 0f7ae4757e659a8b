/** Empty, loading, error, offline, no permission: they are part of every page. */

import { ClientError } from "../client.js";
import { t } from "../text.js";
import { fill, h } from "./dom.js";
import { icon } from "./icon.js";

/** The mark of the moment when the first page was there with what it shows. */
const SHOWN = "sampan.page";

/**
 * @param {{ icon?: import("./icon.js").IconName, title: string, text?: string, action?: Node, bad?: boolean }} state
 */
export function notice({ icon: name = "file", title, text, action, bad }) {
  return h("div", { class: bad ? "state bad" : "state", role: bad ? "alert" : null },
    icon(bad ? "alert" : name), h("h2", {}, title), text ? h("p", {}, text) : null, action ?? null);
}

/** @param {number} [lines] */
export function waiting(lines = 4) {
  const rows = Array.from({ length: lines }, () => h("div", { class: "skeleton" }));
  return h("div", { class: "inside skeletons", role: "status", "aria-label": t("state.loading") }, rows);
}

/**
 * An error as a part of the page, with what to do.
 *
 * @param {unknown} error
 * @param {() => void} [again]
 */
export function trouble(error, again) {
  const action = again ? h("button", { class: "button", type: "button", onclick: again }, icon("again"), t("state.again")) : null;
  return notice({ bad: true, title: headline(error), text: explain(error), ...(action ? { action } : {}) });
}

/** @param {unknown} error */
function headline(error) {
  if (!(error instanceof ClientError)) return t("state.fault");
  const titles = {
    offline: t("state.offline"), denied: t("state.denied"), missing: t("state.missing"), refused: t("state.refused"),
    busy: t("state.busy"), broken: t("state.broken"), fault: t("state.fault"),
  };
  return titles[error.trouble];
}

/** @param {unknown} error */
export function explain(error) {
  if (error instanceof ClientError && error.trouble === "offline") return t("state.offline.text");
  return error instanceof Error ? error.message : String(error);
}

/**
 * Shows that something is loading, then what came of it. What was aborted changes nothing.
 *
 * @template T
 * @param {Element} place
 * @param {(signal: AbortSignal) => Promise<T>} load
 * @param {(value: T) => Node} show
 * @param {AbortSignal} signal
 */
export async function loaded(place, load, show, signal) {
  fill(place, waiting());
  try {
    const value = await load(signal);
    if (signal.aborted) return;
    fill(place, show(value));
    if (performance.getEntriesByName(SHOWN).length === 0) performance.mark(SHOWN);
  } catch (error) {
    if (signal.aborted) return;
    fill(place, trouble(error, () => loaded(place, load, show, signal)));
  }
}

/**
 * Runs a task now and then until the page is left; not while nobody looks.
 *
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 * @param {() => Promise<void>} task
 */
export function every(milliseconds, signal, task) {
  const timer = setInterval(() => {
    if (!document.hidden) task().catch(() => {});
  }, milliseconds);
  signal.addEventListener("abort", () => clearInterval(timer));
}
