/** A table of any length: only the rows that can be seen exist. */

import { fill, h } from "./dom.js";

/** Height of a row in rem; `.window .line` has the same. */
const ROW_REM = 2.125;
/** The window is so high, or as high as its rows; with few rows as if they were some more. */
const WINDOW_REM = 28;
const ROWS_MIN = 5;
/** Rows that exist above and below what can be seen. */
const SPARE = 8;
/** No browser lays out elements that are much taller, in pixels. */
const HEIGHT_MAX = 8_000_000;

/**
 * @template Row
 * @param {object} options
 * @param {string} options.label
 * @param {string} options.widths columns of a CSS grid
 * @param {{ title: string, right?: boolean }[]} options.columns
 * @param {(row: Row) => (Node | string)[]} options.cells
 * @param {(row: Row, index: number) => void} [options.open]
 */
export function windowed({ label, widths, columns, cells, open }) {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const height = ROW_REM * rem;
  /** @type {Row[]} */
  let rows = [];
  let picked = -1;
  const title = h("div", { class: "line title", role: "row" },
    columns.map((column) => h("span", { role: "columnheader", class: column.right ? "right" : null }, column.title)));
  title.style.gridTemplateColumns = widths;
  const lines = h("div", { class: "lines", role: "rowgroup" });
  const element = h("div", { class: "window", role: "table", "aria-label": label, tabindex: 0 }, h("div", { role: "rowgroup" }, title), lines);

  const draw = () => {
    const first = Math.max(0, Math.floor(element.scrollTop / height) - SPARE);
    const last = Math.min(rows.length, Math.ceil((element.scrollTop + element.clientHeight) / height) + SPARE);
    const shown = rows.slice(first, last).map((row, offset) => {
      const index = first + offset;
      const line = h("div", { class: index === picked ? "line picked" : "line", role: "row", "aria-rowindex": index + 2 },
        cells(row).map((cell, at) => h("span", { role: "cell", class: columns[at]?.right ? "right number" : null }, cell)));
      line.style.gridTemplateColumns = widths;
      line.style.top = `${index * height}px`;
      if (open) line.addEventListener("click", () => pick(index));
      return line;
    });
    fill(lines, shown);
  };
  /** @param {number} index */
  const pick = (index) => {
    picked = index;
    const top = index * height;
    if (top < element.scrollTop) element.scrollTop = top;
    const bottom = top + 2 * height - element.clientHeight;
    if (bottom > element.scrollTop) element.scrollTop = bottom;
    draw();
    const row = rows[index];
    if (row !== undefined) open?.(row, index);
  };
  element.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  element.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, Home: -rows.length, End: rows.length }[event.key];
    if (step === undefined || !open || rows.length === 0) return;
    event.preventDefault();
    pick(Math.min(rows.length - 1, Math.max(0, picked + step)));
  });
  new ResizeObserver(draw).observe(element);

  /**
   * @param {Row[]} next
   * @param {number} [marked] the row that is picked among them
   */
  const set = (next, marked = -1) => {
    rows = next.slice(0, Math.floor(HEIGHT_MAX / height));
    picked = marked;
    element.setAttribute("aria-rowcount", String(rows.length + 1));
    lines.style.height = `${rows.length * height}px`;
    element.style.height = `${Math.min(WINDOW_REM, (Math.max(ROWS_MIN, rows.length) + 1) * ROW_REM + 0.25)}rem`;
    draw();
  };
  return { element, set };
}
