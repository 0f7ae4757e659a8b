/** A quick benchmark: the same question once and four times at once, over the API that everybody uses. */

import { chat } from "../../client.js";
import { fill, h } from "../../parts/dom.js";
import { card, plainTable } from "../../parts/page.js";
import { explain } from "../../parts/state.js";
import { count, decimal, duration, t } from "../../text.js";

/** Requests that run together. */
const TOGETHER = [1, 4];
/** Words of the question; a token each or a little more. A short context takes fewer. */
const WORDS_MAX = 400;
/** Tokens of an answer. */
const ANSWER = 64;

/** @typedef {{ prompt: number, output: number, began: number, first: number, last: number }} Run times in milliseconds */

/**
 * @param {import("../../client.js").Model} model
 * @param {AbortSignal} left ends when the page is left
 */
export function bench(model, left) {
  /** @type {AbortController | null} */
  let running = null;
  const table = h("div", {});
  const said = h("p", { class: "inside soft", role: "status" }, t("bench.text"));
  const button = h("button", { class: "button small", type: "button" }, t("bench.run"));
  const run = async (/** @type {AbortSignal} */ signal) => {
    said.textContent = t("bench.loading");
    await once(model, 1, 1, signal);
    const rows = [];
    for (const together of TOGETHER) {
      said.textContent = t("bench.running", { count: count(together) });
      const runs = await Promise.all(Array.from({ length: together }, () => once(model, Math.min(WORDS_MAX, Math.floor(model.context_tokens / 8)), ANSWER, signal)));
      rows.push(line(together, runs));
      fill(table, plainTable([t("bench.together"), `>${t("bench.prompt")}`, `>${t("bench.first")}`, `>${t("bench.each")}`, `>${t("bench.all")}`], rows));
    }
    said.textContent = t("bench.done", { tokens: count(ANSWER) });
  };
  button.addEventListener("click", async () => {
    if (running) return running.abort();
    running = new AbortController();
    const stop = AbortSignal.any([running.signal, left]);
    button.textContent = t("playground.stop");
    fill(table);
    try {
      await run(stop);
    } catch (error) {
      said.textContent = stop.aborted ? t("bench.text") : explain(error);
    }
    running = null;
    button.textContent = t("bench.run");
  });
  return card(t("bench.title"), [h("span", { class: "push" }, button)], said, table);
}

/**
 * @param {number} together
 * @param {Run[]} runs
 * @returns {string[]}
 */
function line(together, runs) {
  const sum = (/** @type {(run: Run) => number} */ of) => runs.reduce((all, run) => all + of(run), 0);
  const began = Math.min(...runs.map((run) => run.began));
  const first = Math.max(...runs.map((run) => run.first)) - began;
  const last = Math.max(...runs.map((run) => run.last));
  const each = sum((run) => speed(run.output - 1, run.last - run.first)) / runs.length;
  const answering = last - Math.min(...runs.map((run) => run.first));
  return [count(together), decimal(speed(sum((run) => run.prompt), first)), duration(first), decimal(each), decimal(speed(sum((run) => run.output), answering))];
}

/**
 * @param {number} tokens
 * @param {number} milliseconds
 */
function speed(tokens, milliseconds) {
  return (1000 * Math.max(0, tokens)) / Math.max(1, milliseconds);
}

/**
 * One request. What it begins with differs every time, so that nothing of it is in a cache.
 *
 * @param {import("../../client.js").Model} model
 * @param {number} words
 * @param {number} most tokens of the answer
 * @param {AbortSignal} signal
 * @returns {Promise<Run>}
 */
async function once(model, words, most, signal) {
  const content = `${Math.random()} ${"the boat goes to sea ".repeat(Math.ceil(words / 5))}`;
  const body = { model: model.id, messages: [{ role: "user", content }], max_tokens: most, temperature: 0, ignore_eos: true };
  const began = performance.now();
  let [first, prompt, output] = [0, 0, 0];
  for await (const chunk of chat(body, signal)) {
    const delta = chunk.choices[0]?.delta;
    if (first === 0 && (delta?.content || delta?.reasoning_content)) first = performance.now();
    if (chunk.usage) [prompt, output] = [chunk.usage.prompt_tokens, chunk.usage.completion_tokens];
  }
  const last = performance.now();
  return { prompt, output, began, first: first || last, last };
}
