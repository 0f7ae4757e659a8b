/** Does a model fit a cluster, how fast, at what price, and what breaks. */

import { ask, send } from "../client.js";
import { fill, h } from "../parts/dom.js";
import { choice, field } from "../parts/form.js";
import { icon } from "../parts/icon.js";
import { loaded, notice, trouble, waiting } from "../parts/state.js";
import { bytes, t } from "../text.js";

/** @param {import("../app.js").Visit} visit */
export async function show({ page, signal }) {
  const body = h("div", {});
  fill(page, h("div", { class: "head" }, h("div", {}, h("h1", {}, t("nav.planner")), h("p", {}, t("planner.lead")))), body);
  await loaded(body, (until) => ask("/admin/v1/plan/choices", { signal: until }), (choices) => draw(choices, signal), signal);
}

/**
 * @param {{ models: { name: string, what: string }[], gpus: { name: string, memory_bytes: number }[], gpus_max: number }} choices
 * @param {AbortSignal} signal
 */
function draw(choices, signal) {
  const asked = { model: "qwen3-235b-a22b", gpu: "H100", hosts: "8", gpus: "8", gbps: "400", prompt: "2048", answer: "1024", token_ms: "50", fp8: false };
  const number = (/** @type {"hosts" | "gpus" | "gbps" | "prompt" | "answer" | "token_ms"} */ name) => {
    const input = h("input", { class: "input", type: "number", min: 1, required: true, value: asked[name], inputmode: "numeric" });
    input.addEventListener("input", () => { asked[name] = input.value; });
    return input;
  };
  const result = h("div", { class: "card" }, notice({ icon: "planner", title: t("planner.empty"), text: t("planner.empty.text") }));
  const form = h("form", { class: "card inside planner" },
    field(t("planner.model"), choice(choices.models.map((model) => ({ value: model.name, label: `${model.name} (${model.what})` })), asked.model, (value) => { asked.model = value; })),
    field(t("planner.gpu"), choice(choices.gpus.map((gpu) => ({ value: gpu.name, label: `${gpu.name}, ${bytes(gpu.memory_bytes)}` })), asked.gpu, (value) => { asked.gpu = value; })),
    field(t("planner.hosts"), number("hosts")), field(t("planner.gpus"), number("gpus")), field(t("planner.gbps"), number("gbps")),
    field(t("planner.prompt"), number("prompt")), field(t("planner.answer"), number("answer")), field(t("planner.token_ms"), number("token_ms")),
    field(t("planner.weights"), choice([{ value: "bf16", label: "BF16" }, { value: "fp8", label: "FP8" }], "bf16", (value) => { asked.fp8 = value === "fp8"; })),
    h("button", { class: "button first", type: "submit" }, icon("planner"), t("planner.plan")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams({
      model: asked.model, on: `${asked.hosts}x${asked.gpus}x${asked.gpu}-${asked.gbps}G`, prompt: asked.prompt,
      answer: asked.answer, token_ms: asked.token_ms, fp8: String(asked.fp8),
    });
    fill(result, waiting(6));
    try {
      // Asked for first, so that a refusal can be shown as one; the frame then has the same address.
      await send(`/admin/v1/plan?${query}`, { signal });
      fill(result, h("iframe", { class: "plan", src: `/admin/v1/plan?${query}`, title: t("nav.planner"), sandbox: "" }));
    } catch (error) {
      if (!signal.aborted) fill(result, trouble(error));
    }
  });
  return h("div", { class: "stack" }, form, result);
}
