/** Line icons on a grid of 24, drawn for the console. */

import { s } from "./dom.js";

const PATHS = {
  overview: "M4 13h6V4H4zM14 20h6v-9h-6zM4 20h6v-3H4zM14 7h6V4h-6z",
  playground: "M5 5h14a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1h-6l-5 4v-4H5a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1zM8 9.500h8M8 12.500h5",
  models: "M12 3 4 7.200v9.600L12 21l8-4.200V7.200zM4 7.200l8 4.300 8-4.300M12 11.500V21",
  vectors: "M5 19 19 5M5 19h6M5 19v-6M13 5h6v6M8 8.500h.01M16 15.500h.01",
  planner: "M12 4v5M5 15v-2a2 2 0 0 1 2-2h10a2 2 0 0 1 2 2v2M12 9v2M10 4h4v3h-4zM3 15h4v4H3zM10 15h4v4h-4zM17 15h4v4h-4zM12 11v4",
  keys: "M14.500 9.500a4 4 0 1 0-3.400 3.950L12.500 15H14v1.500h1.500V18H18v-2.500l-4.200-4.200c.45-.5.7-1.100.7-1.800zM9.500 8.500h.01",
  usage: "M4 20V4M4 20h16M8 16v-4M12 16V8M16 16v-6",
  routes: "M6 19a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM18 9a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM8 17h6a3 3 0 0 0 0-6h-4a3 3 0 0 1 0-6h6",
  catalyst: "M12 20v-8M12 14c-4 0-6-2-6-6 4 0 6 2 6 6zM12 11c0-4 2-6 6-6 0 4-2 6-6 6z",
  logs: "M5 6h14M5 12h14M5 18h9",
  settings: "M12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM12 3v3M12 18v3M3 12h3M18 12h3M5.600 5.600l2.100 2.100M16.300 16.300l2.100 2.100M5.600 18.400l2.100-2.100M16.300 7.700l2.100-2.100",
  search: "M11 17a6 6 0 1 0 0-12 6 6 0 0 0 0 12zM20 20l-4.500-4.500",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v11H9zM6 15H5V4h10v2",
  check: "M5 12.500 10 17 19 7",
  alert: "M12 4 3 19.500h18zM12 10v4M12 16.800h.01",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 3v2M12 19v2M3 12h2M19 12h2M5.600 5.600 7 7M17 17l1.400 1.400M5.600 18.400 7 17M17 7l1.400-1.400",
  moon: "M19.500 14.200A8 8 0 0 1 9.800 4.500a8 8 0 1 0 9.700 9.700z",
  globe: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM3 12h18M12 3c2.500 2.700 3.700 5.700 3.700 9S14.500 18.300 12 21c-2.500-2.700-3.700-5.700-3.700-9S9.500 5.700 12 3z",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.500 11v5M13.500 11v5",
  edit: "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3",
  again: "M5 12a7 7 0 0 1 12-5l2 2M19 5v4h-4M19 12a7 7 0 0 1-12 5l-2-2M5 19v-4h4",
  columns: "M4 5h16v14H4zM12 5v14",
  sliders: "M5 8h8M17 8h2M5 16h2M11 16h8M15 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM9 18a2 2 0 1 0 0-4 2 2 0 0 0 0 4z",
  code: "M9 8l-4 4 4 4M15 8l4 4-4 4",
  image: "M4 5h16v14H4zM4 16l5-5 5 5 3-2.500 3 2.500M15 10h.01",
  history: "M4 12a8 8 0 1 0 2.500-5.800L4 8.500M4 4v4.500h4.500M12 8v4.500l3 1.800",
  tool: "M14.500 6.500a4 4 0 0 0-5 5L4 17l3 3 5.500-5.500a4 4 0 0 0 5-5L15 12l-3-3z",
  chevron: "M9 6l6 6-6 6",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  leave: "M13 4h6v16h-6M4 12h10M10.500 8.500 14 12l-3.500 3.500",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
};

/** @typedef {keyof typeof PATHS} IconName */

/**
 * An icon; it says nothing to a screen reader.
 *
 * @param {IconName} name
 */
export function icon(name) {
  return s("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: PATHS[name] }));
}
