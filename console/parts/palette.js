/** Ctrl-K: every page and action by its name. */

import { t } from "../text.js";
import { fill, freshId, h } from "./dom.js";
import { icon } from "./icon.js";

/** @typedef {{ name: string, icon: import("./icon.js").IconName, note: string, run: () => void }} CommandItem */

/** @param {CommandItem[]} items */
export function openPalette(items) {
  if (document.querySelector("dialog.palette")) return;
  let shown = items;
  let at = 0;
  const id = freshId();
  const list = h("ul", { role: "listbox", id, "aria-label": t("palette.open") });
  const input = h("input", {
    type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": id, "aria-label": t("palette.hint"),
    placeholder: t("palette.hint"), autocomplete: "off", spellcheck: "false",
  });
  const dialog = h("dialog", { class: "palette", "aria-label": t("palette.open"), onclose: () => dialog.remove() }, input, list);

  const draw = () => {
    if (shown.length === 0) input.removeAttribute("aria-activedescendant");
    fill(list, shown.map((item, index) => {
      const row = h("li", { role: "option", id: `${id}-${index}`, "aria-selected": String(index === at), onclick: () => run(item) },
        icon(item.icon), item.name, h("small", {}, item.note));
      if (index === at) {
        input.setAttribute("aria-activedescendant", row.id);
        requestAnimationFrame(() => row.scrollIntoView({ block: "nearest" }));
      }
      return row;
    }));
  };
  /** @param {CommandItem} item */
  const run = (item) => {
    dialog.close();
    item.run();
  };
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    shown = items.filter((item) => words.every((word) => `${item.name} ${item.note}`.toLowerCase().includes(word)));
    at = 0;
    draw();
  });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && shown.length > 0) {
      event.preventDefault();
      at = (at + step + shown.length) % shown.length;
      draw();
    }
    const item = shown[at];
    if (event.key === "Enter" && item) {
      event.preventDefault();
      run(item);
    }
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  draw();
}
