/** Files of requests that are answered behind everybody else, and the files themselves. */

import { ask, upload } from "../client.js";
import { fill, h } from "../parts/dom.js";
import { confirmed, toast } from "../parts/feedback.js";
import { choice, field } from "../parts/form.js";
import { icon } from "../parts/icon.js";
import { card, download, meter, pageHead, plainTable, smallButton } from "../parts/page.js";
import { every, explain, loaded, notice } from "../parts/state.js";
import { bytes, count, moment, t } from "../text.js";

const LOOK_MS = 2000;
const ENDPOINTS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"];
const WINDOWS = ["24h", "3d", "7d", "14d"];
const OVER = ["completed", "failed", "expired", "cancelled"];

/**
 * @typedef {{ id: string, status: string, endpoint: string, created_at: number, output_file_id: string | null, error_file_id: string | null,
 *   errors: { data: { message: string, line: number | null }[] } | null, request_counts: { total: number, completed: number, failed: number } }} Batch
 * @typedef {{ id: string, filename: string, bytes: number, purpose: string, created_at: number }} KeptFile
 */

/** @param {import("../app.js").Visit} visit */
export async function show({ page, signal }) {
  const body = h("div", {});
  fill(page, pageHead(t("nav.batches"), t("batches.lead")), body);
  const look = async (/** @type {AbortSignal} */ until) => {
    const [batches, files] = await Promise.all([ask("/v1/batches?limit=100", { signal: until }), ask("/v1/files", { signal: until })]);
    return { batches: /** @type {Batch[]} */ (batches.data), files: /** @type {KeptFile[]} */ (files.data) };
  };
  await loaded(body, look, (seen) => {
    const list = h("div", {});
    const kept = h("div", {});
    const draw = (/** @type {Awaited<ReturnType<typeof look>>} */ now) => {
      fill(list, batchTable(now.batches, now.files, again));
      fill(kept, fileTable(now.files, again));
    };
    const again = async () => draw(await look(signal));
    let isRunning = seen.batches.some((batch) => !OVER.includes(batch.status));
    draw(seen);
    every(LOOK_MS, signal, async () => {
      const now = await look(signal);
      const runs = now.batches.some((batch) => !OVER.includes(batch.status));
      // What rests is left alone, so that nobody loses the place of the keyboard.
      if (runs || isRunning || now.batches.length !== seen.batches.length) draw(now);
      isRunning = runs;
      seen = now;
    });
    return h("div", { class: "stack" }, newBatch(again), card(t("batches.batches"), [], list), card(t("batches.files"), [], kept));
  }, signal);
}

/** @param {() => Promise<void>} again */
function newBatch(again) {
  let endpoint = ENDPOINTS[0] ?? "";
  let period = WINDOWS[0] ?? "";
  const file = h("input", { class: "input", type: "file", accept: ".jsonl,application/x-ndjson", required: true });
  const button = h("button", { class: "button first", type: "submit" }, icon("send"), t("batches.start"));
  const progress = h("div", { class: "wide" });
  const form = h("form", { class: "planner" }, field(t("batches.file"), file, t("batches.file.hint")),
    field(t("batches.endpoint"), choice(ENDPOINTS.map((value) => ({ value, label: value })), endpoint, (value) => { endpoint = value; })),
    field(t("batches.window"), choice(WINDOWS.map((value) => ({ value, label: value })), period, (value) => { period = value; })), button, progress);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = file.files?.[0];
    if (!chosen) return;
    button.disabled = true;
    try {
      const kept = await upload(chosen, "batch", (sent, all) => fill(progress, meter(sent, all, `${bytes(sent)} / ${bytes(all)}`)));
      await ask("/v1/batches", { method: "POST", body: { input_file_id: kept.id, endpoint, completion_window: period } });
      form.reset();
      toast(t("batches.started"));
    } catch (error) {
      toast(explain(error), "bad");
    }
    fill(progress);
    button.disabled = false;
    await again().catch((error) => toast(explain(error), "bad"));
  });
  return card(t("batches.new"), [], form);
}

/**
 * @param {Batch[]} batches
 * @param {KeptFile[]} files
 * @param {() => Promise<void>} again
 */
function batchTable(batches, files, again) {
  if (batches.length === 0) return notice({ icon: "file", title: t("batches.empty"), text: t("batches.empty.text") });
  const rows = batches.map((batch) => {
    const { total, completed, failed } = batch.request_counts;
    const label = failed > 0 ? t("batches.progress.failed", { done: count(completed), failed: count(failed), all: count(total) }) : t("batches.progress", { done: count(completed), all: count(total) });
    return [
      h("div", {}, h("span", { class: "mono" }, batch.id), h("div", { class: "soft" }, batch.endpoint, batch.errors ? `: ${complaint(batch)}` : "")),
      moment(batch.created_at * 1000), meter(completed + failed, total, label), h("span", { class: mood(batch.status) }, batch.status.replaceAll("_", " ")),
      h("div", { class: "actions" }, results(batch, files), OVER.includes(batch.status) ? null : smallButton(t("cancel"), () => act(`/v1/batches/${batch.id}/cancel`, "POST", again))),
    ];
  });
  return plainTable([t("batches.batch"), t("batches.made"), t("batches.done"), t("models.state"), ""], rows);
}

/** @param {Batch} batch */
function complaint(batch) {
  return batch.errors?.data.slice(0, 3).map((fault) => (fault.line === null ? fault.message : t("batches.line", { line: fault.line, message: fault.message }))).join("; ");
}

/** @param {string} status */
function mood(status) {
  if (status === "completed") return "pill good";
  if (status === "failed" || status === "expired") return "pill bad";
  return status === "cancelled" ? "pill" : "pill warn";
}

/**
 * @param {Batch} batch
 * @param {KeptFile[]} files
 */
function results(batch, files) {
  const links = [];
  for (const [id, key] of /** @type {const} */ ([[batch.output_file_id, "batches.results"], [batch.error_file_id, "batches.errors"]])) {
    if (!id || !files.some((file) => file.id === id)) continue;
    const link = download(`/v1/files/${id}/content`, `${id}.jsonl`);
    fill(link, icon("download"), t(key));
    links.push(link);
  }
  return h("div", { class: "actions" }, links);
}

/**
 * @param {string} path
 * @param {string} method
 * @param {() => Promise<void>} again
 */
async function act(path, method, again) {
  try {
    await ask(path, { method });
    await again();
  } catch (error) {
    toast(explain(error), "bad");
  }
}

/**
 * @param {KeptFile[]} files
 * @param {() => Promise<void>} again
 */
function fileTable(files, again) {
  if (files.length === 0) return notice({ icon: "file", title: t("batches.files.empty"), text: t("batches.files.text") });
  const remove = async (/** @type {KeptFile} */ file) => {
    if (await confirmed(t("batches.delete", { name: file.filename }), t("batches.delete.text"), t("delete"))) await act(`/v1/files/${file.id}`, "DELETE", again);
  };
  const rows = files.map((file) => [
    h("div", {}, file.filename, h("div", { class: "soft mono" }, file.id)), file.purpose, bytes(file.bytes), moment(file.created_at * 1000),
    h("div", { class: "actions" }, download(`/v1/files/${file.id}/content`, file.filename), smallButton(t("delete"), () => remove(file))),
  ]);
  return plainTable([t("models.name"), t("batches.purpose"), `>${t("models.size")}`, t("batches.made"), ""], rows);
}
