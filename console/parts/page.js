/** What every page begins with, and small things that several pages show alike. */

import { h } from "./dom.js";
import { t } from "../text.js";

/**
 * @param {string} title
 * @param {string} lead
 * @param {...(Node | null)} actions
 */
export function pageHead(title, lead, ...actions) {
  return h("div", { class: "head" }, h("div", {}, h("h1", {}, title), h("p", {}, lead)), h("div", { class: "actions" }, ...actions));
}

/**
 * A card with a title, and what stands at the right of it.
 *
 * @param {string} title
 * @param {(Node | string | null)[]} beside
 * @param {...Node} inside
 */
export function card(title, beside, ...inside) {
  return h("section", { class: "card", "aria-label": title }, h("header", {}, h("h2", {}, title), ...beside), ...inside);
}

/**
 * A table of few rows. Titles that begin with `>` stand at the right, as do their cells.
 *
 * @param {string[]} titles
 * @param {(Node | string | null)[][]} rows
 */
export function plainTable(titles, rows) {
  const isRight = (/** @type {number} */ at) => titles[at]?.startsWith(">");
  const heads = titles.map((title, at) => (title.replace(/^>/, "") === "" ? h("td", {}) : h("th", { scope: "col", class: isRight(at) ? "right" : null }, title.replace(/^>/, ""))));
  const lines = rows.map((cells) => h("tr", {}, cells.map((cell, at) => h("td", { class: isRight(at) ? "right number" : null }, cell))));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": titles.map((title) => title.replace(/^>/, "")).filter(Boolean).join(", ") },
    h("table", { class: "rows" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, lines)));
}

/**
 * How much of something is used.
 *
 * @param {number} used
 * @param {number} most
 * @param {string} label
 */
export function meter(used, most, label) {
  const part = h("i");
  part.style.width = `${most > 0 ? Math.min(100, Math.max(0, (100 * used) / most)) : 0}%`;
  return h("div", { class: "memory" }, h("div", { class: "bar", role: "img", "aria-label": label }, part), h("small", { class: "soft number" }, label));
}

/**
 * @param {string} label
 * @param {() => void} press
 * @param {Record<string, unknown>} [props]
 */
export function smallButton(label, press, props = {}) {
  return h("button", { class: "button small", type: "button", onclick: press, ...props }, label);
}

/** A link that saves what the server answers. @param {string} href @param {string} name */
export function download(href, name) {
  return h("a", { class: "button small", href, download: name }, t("download"));
}
