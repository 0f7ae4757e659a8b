/** How a model's state and memory look, on every page. */

import { bytes, t } from "../text.js";
import { h } from "./dom.js";

/** @param {import("../client.js").Model} model */
export function statePill(model) {
  if (model.state === "loading") {
    const share = model.layers_all ? Math.round((100 * (model.layers_done ?? 0)) / model.layers_all) : 0;
    return h("span", { class: "pill warn" }, t("model.loading", { share }));
  }
  if (model.state === "failed") return h("span", { class: "pill bad", title: model.reason ?? "" }, t("model.failed"));
  if (model.state === "on_disk") return h("span", { class: "pill" }, t("model.on_disk"));
  return h("span", { class: "pill good" }, t("model.loaded"));
}

/** @param {import("../client.js").Model} model */
export function memoryBar(model) {
  const most = model.kv_max_bytes ?? 0;
  const used = model.kv_used_bytes ?? 0;
  if (model.state !== "loaded" || most === 0) return h("span", { class: "soft number" }, bytes(model.weights_bytes ?? model.size_bytes));
  const part = h("i");
  part.style.width = `${Math.min(100, (100 * used) / most)}%`;
  const label = t("model.kv", { used: bytes(used), most: bytes(most) });
  return h("div", { class: "memory" }, h("div", { class: "bar", role: "img", "aria-label": label }, part), h("small", { class: "soft number" }, label));
}
