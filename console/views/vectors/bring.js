/** Bringing a file into an index, with how far it is, and a way to stop. */

import { fill, h } from "../../parts/dom.js";
import { toast } from "../../parts/feedback.js";
import { icon } from "../../parts/icon.js";
import { meter, smallButton } from "../../parts/page.js";
import { explain } from "../../parts/state.js";
import { count, t } from "../../text.js";
import { put } from "./api.js";
import { rowsOf } from "./rows.js";

/** Rows of one request; the API takes 500. */
const ROWS = 500;
/** Numbers of one request: a few megabytes. */
const NUMBERS = 500_000;

/**
 * A button, and where the progress is shown.
 *
 * @param {string} bucket
 * @param {string} name
 * @param {AbortSignal} signal ends when the page is left
 * @param {() => Promise<void>} done
 */
export function bring(bucket, name, signal, done) {
  const place = h("div", { class: "bring" });
  const file = h("input", { type: "file", accept: ".jsonl,.ndjson,.json,.csv,.tsv,.parquet", hidden: true, "aria-label": t("vectors.import") });
  const button = h("button", { class: "button first", type: "button", onclick: () => file.click() }, icon("plus"), t("vectors.import"));
  file.addEventListener("change", async () => {
    const chosen = file.files?.[0];
    file.value = "";
    if (!chosen) return;
    button.disabled = true;
    const isAny = await bringIn(bucket, name, chosen, place, signal);
    button.disabled = false;
    fill(place);
    if (isAny && !signal.aborted) await done();
  });
  return { button: h("span", {}, file, button), place };
}

/**
 * @param {string} bucket
 * @param {string} name
 * @param {File} file
 * @param {HTMLElement} place
 * @param {AbortSignal} left
 * @returns {Promise<boolean>} whether anything was imported
 */
async function bringIn(bucket, name, file, place, left) {
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, left]);
  let [all, share] = [0, 0];
  const show = () => fill(place, h("section", { class: "card inside bringing", role: "status" },
    meter(share, 1, t("vectors.importing", { name: file.name, count: count(all) })), smallButton(t("playground.stop"), () => stop.abort())));
  show();
  try {
    for await (const batch of batches(rowsOf(file))) {
      if (signal.aborted) break;
      await put(bucket, name, batch.rows, signal);
      all += batch.rows.length;
      share = batch.share;
      show();
    }
    toast(t("vectors.imported", { count: count(all) }), signal.aborted ? "bad" : "good");
  } catch (error) {
    const before = all > 0 ? `${t("vectors.imported", { count: count(all) })} ` : "";
    toast(`${before}${signal.aborted ? "" : explain(error)}`, "bad");
  }
  return all > 0;
}

/**
 * @param {AsyncGenerator<import("./rows.js").Read>} rows
 * @returns {AsyncGenerator<{ rows: import("./rows.js").Row[], share: number }>}
 */
async function* batches(rows) {
  /** @type {import("./rows.js").Row[]} */
  let batch = [];
  let [numbers, last] = [0, 0];
  for await (const { row, share } of rows) {
    batch.push(row);
    numbers += row.vector?.length ?? 0;
    last = share;
    if (batch.length >= ROWS || numbers >= NUMBERS) {
      yield { rows: batch, share };
      [batch, numbers] = [[], 0];
    }
  }
  if (batch.length > 0) yield { rows: batch, share: last };
}
