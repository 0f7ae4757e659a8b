/** Fields with their labels. */

import { freshId, h } from "./dom.js";

/**
 * @param {string} label
 * @param {HTMLElement} input
 * @param {string} [hint]
 */
export function field(label, input, hint) {
  const id = input.id || freshId();
  input.id = id;
  return h("div", { class: "field" }, h("label", { for: id }, label), input, hint ? h("small", {}, hint) : null);
}

/**
 * @param {string} label
 * @param {boolean} checked
 * @param {(checked: boolean) => void} changed
 */
export function checkbox(label, checked, changed) {
  const input = h("input", { type: "checkbox", checked });
  input.addEventListener("change", () => changed(input.checked));
  return h("label", { class: "check" }, input, label);
}

/**
 * @param {{ value: string, label: string }[]} options
 * @param {string} value
 * @param {(value: string) => void} changed
 * @param {Record<string, unknown>} [props]
 */
export function choice(options, value, changed, props = {}) {
  const select = h("select", { class: "input", ...props },
    options.map((option) => h("option", { value: option.value, selected: option.value === value }, option.label)));
  select.addEventListener("change", () => changed(select.value));
  return select;
}

/**
 * Tabs that swap what stands below them.
 *
 * @param {string} label
 * @param {{ name: string, show: () => void }[]} all
 */
export function tabs(label, all) {
  const bar = h("div", { class: "tabs", role: "tablist", "aria-label": label });
  /** @param {number} index */
  const pick = (index) => {
    [...bar.children].forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === index));
      tab.setAttribute("tabindex", at === index ? "0" : "-1");
    });
    all[index]?.show();
  };
  all.forEach((tab, index) => {
    bar.append(h("button", { type: "button", role: "tab", onclick: () => pick(index) }, tab.name));
  });
  bar.addEventListener("keydown", (event) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    const at = [...bar.children].indexOf(/** @type {Element} */ (document.activeElement));
    if (step === 0 || at < 0) return;
    const next = (at + step + all.length) % all.length;
    pick(next);
    /** @type {HTMLElement} */ (bar.children[next]).focus();
  });
  pick(0);
  return bar;
}
