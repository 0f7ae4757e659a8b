/** Toasts, dialogs, and a button that copies. */

import { t } from "../text.js";
import { fill, h } from "./dom.js";
import { icon } from "./icon.js";
import { explain } from "./state.js";

/** How long a toast stays, in milliseconds. */
const TOAST_MS = 6000;
/** Toasts that are shown at once. */
const TOASTS_MAX = 4;

const toasts = h("div", { class: "toasts", role: "status", "aria-live": "polite" });
document.body.append(toasts);

/**
 * @param {string} text
 * @param {"good" | "bad"} [mood]
 */
export function toast(text, mood = "good") {
  const dismiss = h("button", { class: "button bare small square", type: "button", "aria-label": t("close"), onclick: () => note.remove() }, icon("close"));
  const note = h("div", { class: `toast ${mood}` }, icon(mood === "bad" ? "alert" : "check"), h("span", {}, text), dismiss);
  toasts.append(note);
  while (toasts.childElementCount > TOASTS_MAX) toasts.firstElementChild?.remove();
  setTimeout(() => note.remove(), TOAST_MS);
}

/**
 * A modal dialog; it removes itself when it closes.
 *
 * @param {{ title: string, wide?: boolean }} options
 * @param {...(Node | string)} children
 */
export function openDialog({ title, wide }, ...children) {
  const shut = h("button", { class: "button bare small square", type: "button", "aria-label": t("close"), onclick: () => dialog.close() }, icon("close"));
  const head = h("div", { class: "head" }, h("div", {}, h("h2", {}, title)), shut);
  const dialog = h("dialog", { class: wide ? "wide" : null, "aria-label": title, onclose: () => dialog.remove() }, h("div", { class: "inside" }, head, ...children));
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Asks before something that cannot be undone.
 *
 * @param {string} title
 * @param {string} text
 * @param {string} action
 * @returns {Promise<boolean>}
 */
export function confirmed(title, text, action) {
  return new Promise((resolve) => {
    let answer = false;
    const yes = h("button", { class: "button bad", type: "button", onclick: () => { answer = true; dialog.close(); } }, action);
    const no = h("button", { class: "button", type: "button", onclick: () => dialog.close() }, t("cancel"));
    const dialog = openDialog({ title }, h("p", { class: "soft" }, text), h("div", { class: "actions" }, yes, no));
    dialog.addEventListener("close", () => resolve(answer));
    no.focus();
  });
}

/**
 * A dialog with a form. It stays open, and says why, if what it asks for fails.
 *
 * @param {string} title
 * @param {(Node | string)[]} fields
 * @param {string} action
 * @param {() => Promise<unknown>} act
 */
export function formDialog(title, fields, action, act) {
  const button = h("button", { class: "button first", type: "submit" }, action);
  const form = h("form", { class: "stack tight" }, fields, h("div", {}, button));
  const dialog = openDialog({ title }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await act();
      dialog.close();
    } catch (error) {
      toast(explain(error), "bad");
    }
    button.disabled = false;
  });
}

/**
 * @param {() => string} text
 * @param {string} [label]
 */
export function copyButton(text, label = t("copy")) {
  const button = h("button", { class: "button small square", type: "button", "aria-label": label, title: label }, icon("copy"));
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      fill(button, icon("check"));
      setTimeout(() => fill(button, icon("copy")), 1500);
    } catch {
      toast(t("copy.failed"), "bad");
    }
  });
  return button;
}

/**
 * Saves a text as a file.
 *
 * @param {string} name
 * @param {string} text
 * @param {string} kind
 */
export function save(name, text, kind) {
  const address = URL.createObjectURL(new Blob([text], { type: kind }));
  const link = h("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
