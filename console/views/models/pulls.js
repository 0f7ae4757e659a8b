/** Models that are fetched from a hub: asking for one, how far each is, and a way to stop. */

import { ask } from "../../client.js";
import { fill, h } from "../../parts/dom.js";
import { formDialog, toast } from "../../parts/feedback.js";
import { choice, field } from "../../parts/form.js";
import { icon } from "../../parts/icon.js";
import { card, meter, smallButton } from "../../parts/page.js";
import { every, explain } from "../../parts/state.js";
import { bytes, count, duration, t } from "../../text.js";

/** How often the server is asked how far it is, in milliseconds. */
const LOOK_MS = 1000;
/** Pulls that are shown. */
const SHOWN = 8;

/**
 * @typedef {object} Pull
 * @property {number} id
 * @property {string} model
 * @property {string} source
 * @property {string | null} name
 * @property {"waiting" | "fetching" | "done" | "failed" | "stopped"} state
 * @property {number} files
 * @property {number} whole_files
 * @property {number} size_bytes
 * @property {number} here_bytes
 * @property {string | null} why
 * @property {number} asked_ms
 * @property {number | null} began_ms
 * @property {number | null} over_ms
 */

/**
 * A button, and where the pulls are shown.
 *
 * @param {AbortSignal} signal ends when the page is left
 * @param {() => Promise<void>} arrived another model is there
 */
export function pulls(signal, arrived) {
  const place = h("div", {});
  /** Bytes of each pull when it was last looked at, for its pace. @type {Map<number, { here: number, at: number, pace: number }>} */
  const before = new Map();
  let open = 0;
  const look = async () => {
    const list = /** @type {Pull[]} */ ((await ask("/admin/v1/pulls", { signal })).data);
    const now = list.filter((pull) => pull.state === "waiting" || pull.state === "fetching").length;
    fill(place, list.length > 0 ? card(t("pulls.title"), [], h("ul", { class: "inside pulls" }, list.slice(0, SHOWN).map((pull) => line(pull, pace(before, pull), look)))) : "");
    if (now < open) await arrived();
    open = now;
  };
  // Whoever may not fetch models sees a page without them.
  const button = h("button", { class: "button first", type: "button", hidden: true, onclick: () => wish(look) }, icon("plus"), t("pulls.pull"));
  look().then(() => {
    button.hidden = false;
    every(LOOK_MS, signal, async () => { if (open > 0) await look(); });
  }).catch(() => {});
  return { button, place };
}

/** @param {() => Promise<void>} look */
function wish(look) {
  const model = h("input", { class: "input", required: true, placeholder: "Qwen/Qwen3-0.6B-GGUF:Q8_0", autocomplete: "off", spellcheck: "false" });
  const address = h("input", { class: "input", type: "url", placeholder: "http://10.0.0.2:8420" });
  const where = field(t("pulls.address"), address, t("pulls.address.hint"));
  where.hidden = true;
  let from = "hf";
  const source = choice([{ value: "hf", label: "Hugging Face" }, { value: "modelscope", label: "ModelScope" }, { value: "", label: t("pulls.elsewhere") }], from, (value) => {
    from = value;
    where.hidden = value !== "";
    address.required = value === "";
  });
  const name = h("input", { class: "input", autocomplete: "off", spellcheck: "false" });
  const fields = [field(t("pulls.model"), model, t("pulls.model.hint")), field(t("pulls.from"), source), where, field(t("pulls.name"), name, t("pulls.name.hint"))];
  formDialog(t("pulls.pull"), fields, t("pulls.go"), async () => {
    const body = { model: model.value.trim(), from: from || address.value.trim(), ...(name.value.trim() ? { name: name.value.trim() } : {}) };
    await ask("/admin/v1/pulls", { method: "POST", body });
    await look();
  });
}

/**
 * Bytes a second, smoothed.
 *
 * @param {Map<number, { here: number, at: number, pace: number }>} before
 * @param {Pull} pull
 */
function pace(before, pull) {
  const at = performance.now();
  const last = before.get(pull.id);
  const now = last && at > last.at ? (1000 * Math.max(0, pull.here_bytes - last.here)) / (at - last.at) : 0;
  const smooth = last && last.pace > 0 ? 0.7 * last.pace + 0.3 * now : now;
  before.set(pull.id, { here: pull.here_bytes, at, pace: smooth });
  return smooth;
}

/**
 * @param {Pull} pull
 * @param {number} speed bytes a second
 * @param {() => Promise<void>} look
 */
function line(pull, speed, look) {
  const stop = async () => {
    try {
      await ask(`/admin/v1/pulls/${pull.id}`, { method: "DELETE" });
      await look();
    } catch (error) {
      toast(explain(error), "bad");
    }
  };
  const isOpen = pull.state === "waiting" || pull.state === "fetching";
  const left = speed > 0 ? duration((1000 * (pull.size_bytes - pull.here_bytes)) / speed) : "";
  const figures = { here: bytes(pull.here_bytes), all: bytes(pull.size_bytes), files: count(pull.whole_files), of: count(pull.files) };
  const words = pull.state === "done" ? `${bytes(pull.size_bytes)}${pull.began_ms && pull.over_ms ? ` · ${duration(pull.over_ms - pull.began_ms)}` : ""}`
    : pull.state === "fetching" && pull.size_bytes > 0 ? [t("pulls.far", figures), speed > 0 ? `${bytes(speed)}/s` : "", left ? t("pulls.left", { left }) : ""].filter(Boolean).join(" · ")
      : t(STATES[pull.state]);
  const mood = pull.state === "done" ? "pill good" : pull.state === "failed" ? "pill bad" : pull.state === "stopped" ? "pill" : "pill warn";
  const name = pull.state === "done" && pull.name ? h("a", { href: `#/models/${encodeURIComponent(pull.name)}` }, pull.name) : h("b", {}, pull.model);
  return h("li", {},
    h("div", {}, name, " ", h("span", { class: "soft" }, pull.source), " ", h("span", { class: mood }, t(STATES[pull.state]))),
    isOpen ? meter(pull.here_bytes, pull.size_bytes, words) : h("small", { class: "soft number" }, words),
    pull.why ? h("p", { class: "why", role: pull.state === "failed" ? "alert" : null }, pull.why) : null,
    isOpen ? smallButton(t("playground.stop"), stop) : null);
}

/** @type {Record<Pull["state"], import("../../text.js").TextKey>} */
const STATES = { waiting: "pulls.waiting", fetching: "pulls.fetching", done: "pulls.done", failed: "pulls.failed", stopped: "pulls.stopped" };
