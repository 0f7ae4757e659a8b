/** The drawer beside a conversation: instructions, how tokens are drawn, tools, the form of the answer. */

import { h } from "../../parts/dom.js";
import { choice, field } from "../../parts/form.js";
import { t } from "../../text.js";
import { faultOf } from "./wire.js";

const TOOLS_EXAMPLE = JSON.stringify([{
  type: "function",
  function: {
    name: "get_weather", description: "The weather in a city now.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
}], null, 2);

const SCHEMA_EXAMPLE = JSON.stringify({
  type: "object", properties: { name: { type: "string" }, age: { type: "integer" } }, required: ["name", "age"], additionalProperties: false,
}, null, 2);

/**
 * @param {import("./history.js").Settings} settings
 * @param {() => void} changed
 */
export function settingsPanel(settings, changed) {
  /**
   * @param {"temperature" | "topP" | "maxTokens" | "seed"} name
   * @param {Record<string, unknown>} props
   */
  const number = (name, props) => {
    const input = h("input", { class: "input", type: "number", value: settings[name], placeholder: t("settings.default"), ...props });
    input.addEventListener("input", () => { settings[name] = input.value; changed(); });
    return input;
  };
  const system = h("textarea", { class: "input", rows: 4, placeholder: t("settings.system.hint"), value: settings.system });
  system.addEventListener("input", () => { settings.system = system.value; changed(); });
  const thinking = choice(
    [{ value: "", label: t("settings.default") }, { value: "on", label: t("on") }, { value: "off", label: t("off") }],
    settings.thinking, (value) => { settings.thinking = /** @type {"" | "on" | "off"} */ (value); changed(); });
  return h("div", { class: "settings" },
    field(t("settings.system"), system),
    h("div", { class: "pair" },
      field(t("settings.temperature"), number("temperature", { min: 0, max: 2, step: 0.1 })),
      field(t("settings.top_p"), number("topP", { min: 0, max: 1, step: 0.05 })),
      field(t("settings.max_tokens"), number("maxTokens", { min: 1, step: 1 })),
      field(t("settings.seed"), number("seed", { step: 1 }))),
    field(t("settings.thinking"), thinking),
    jsonField(t("settings.tools"), "array", settings.tools, TOOLS_EXAMPLE, (text) => { settings.tools = text; changed(); }),
    jsonField(t("settings.schema"), "object", settings.schema, SCHEMA_EXAMPLE, (text) => { settings.schema = text; changed(); }));
}

/**
 * @param {string} label
 * @param {"array" | "object"} form
 * @param {string} text
 * @param {string} example
 * @param {(text: string) => void} changed
 */
function jsonField(label, form, text, example, changed) {
  const input = h("textarea", { class: "input code", rows: text ? 8 : 2, spellcheck: "false", value: text });
  const fault = h("span", { class: "fault", role: "alert" });
  const check = () => {
    const why = faultOf(input.value, form);
    fault.textContent = why === form ? t(form === "array" ? "settings.array" : "settings.object") : why;
    input.setAttribute("aria-invalid", String(why !== ""));
    changed(input.value);
  };
  input.addEventListener("input", check);
  const fill = h("button", { class: "button small", type: "button" }, t("settings.example"));
  fill.addEventListener("click", () => {
    input.value = example;
    input.rows = 10;
    check();
  });
  return h("div", { class: "stack tight" }, field(label, input), fault, h("div", {}, fill));
}
