/** The shell: navigation, the command palette, theme and language, and which page is shown. */

import { connection, platform, session, signOut } from "./client.js";
import { fill, h } from "./parts/dom.js";
import { icon } from "./parts/icon.js";
import { openPalette } from "./parts/palette.js";
import { trouble, waiting } from "./parts/state.js";
import { LANGUAGES, language, setLanguage, t } from "./text.js";

/**
 * @typedef {object} Visit
 * @property {HTMLElement} page where the view draws
 * @property {string} rest what follows the page's name in the address
 * @property {AbortSignal} signal ends when the page is left
 *
 * @typedef {object} Page
 * @property {string} id
 * @property {import("./text.js").TextKey} title
 * @property {import("./parts/icon.js").IconName} icon
 * @property {"accounts" | "books" | "routes" | "vectors"} [needs] a part of the platform that not every server has
 * @property {() => Promise<{ show: (visit: Visit) => void | Promise<void> }>} load
 */

/** @type {Page[]} */
export const PAGES = [
  { id: "overview", title: "nav.overview", icon: "overview", load: () => import("./views/overview.js") },
  { id: "playground", title: "nav.playground", icon: "playground", load: () => import("./views/playground.js") },
  { id: "models", title: "nav.models", icon: "models", load: () => import("./views/models.js") },
  { id: "vectors", title: "nav.vectors", icon: "vectors", needs: "vectors", load: () => import("./views/vectors.js") },
  { id: "batches", title: "nav.batches", icon: "file", load: () => import("./views/batches.js") },
  { id: "logs", title: "nav.logs", icon: "logs", load: () => import("./views/logs.js") },
  { id: "usage", title: "nav.usage", icon: "usage", needs: "books", load: () => import("./views/usage.js") },
  { id: "catalyst", title: "nav.catalyst", icon: "catalyst", needs: "books", load: () => import("./views/catalyst.js") },
  { id: "routes", title: "nav.routes", icon: "routes", needs: "routes", load: () => import("./views/routes.js") },
  { id: "people", title: "nav.people", icon: "keys", needs: "accounts", load: () => import("./views/people.js") },
  { id: "planner", title: "nav.planner", icon: "planner", load: () => import("./views/planner.js") },
  { id: "settings", title: "nav.settings", icon: "settings", load: () => import("./views/settings.js") },
];

/** A frame is waited for so long. */
const FRAME_MS_MAX = 100;

const side = h("nav", { class: "side", "aria-label": t("nav.label"), id: "side" });
const main = h("main", { class: "main", id: "main", tabindex: -1 });
const status = h("span", { class: "pulse", role: "status" });
const banner = h("div", { class: "offline", role: "alert", hidden: true }, icon("alert"), t("state.offline.text"));
const place = h("div", { class: "view" });
let visit = new AbortController();
/** @type {import("./client.js").Platform["parts"]} What this server has; not known until it has answered. */
let parts;

function drawShell() {
  document.documentElement.lang = language;
  const links = PAGES.map((page) => h("a", { href: `#/${page.id}`, "data-page": page.id, hidden: !isThere(page) }, icon(page.icon), t(page.title)));
  const seek = h("button", { class: "seek", type: "button", onclick: () => openPalette(commands()) },
    icon("search"), t("palette.open"), h("kbd", {}, "Ctrl K"));
  const theme = h("button", { class: "button bare small square", type: "button", "aria-label": t("theme"), title: t("theme"), onclick: nextTheme }, icon(isDark() ? "sun" : "moon"));
  theme.id = "theme";
  const tongue = h("button", { class: "button bare small square", type: "button", "aria-label": t("language"), title: t("language"), onclick: () => openPalette(languages()) }, icon("globe"));
  const leave = h("button", { class: "button bare small square", type: "button", "aria-label": t("signin.out"), title: t("signin.out"), hidden: true, onclick: goodbye }, icon("leave"));
  leave.id = "leave";
  fill(side, brand(), seek, h("div", { class: "nav" }, links), h("div", { class: "foot" }, status, theme, tongue, leave));
  const menu = h("button", { class: "button bare square", type: "button", "aria-label": t("nav.open"), "aria-controls": "side", "aria-expanded": "false", onclick: toggleSide }, icon("menu"));
  menu.id = "menu";
  const top = h("header", { class: "top" }, menu, brand());
  main.append(banner, top, place);
  const jump = h("a", { class: "jump", href: "#main", onclick: skip }, t("nav.skip"));
  fill(/** @type {Element} */ (document.getElementById("app")), jump, side, main);
}

/** A page whose part of the platform is not there is not shown. @param {Page} page */
function isThere(page) {
  return !page.needs || Boolean(parts?.[page.needs]);
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault();
  main.focus();
}

async function goodbye() {
  await signOut().catch(() => {});
  location.reload();
}

function brand() {
  const address = new URL("icon.svg", import.meta.url).href;
  return h("a", { class: "brand", href: "#/overview" }, h("img", { src: address, alt: "", width: 24, height: 24 }), "Sampan");
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function nextTheme() {
  const next = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("sampan.theme", next);
  const button = document.getElementById("theme");
  if (button) fill(button, icon(isDark() ? "sun" : "moon"));
}

function toggleSide() {
  const isOpen = side.classList.toggle("open");
  document.getElementById("menu")?.setAttribute("aria-expanded", String(isOpen));
  document.querySelector(".veil")?.remove();
  if (!isOpen) return;
  side.before(h("button", { class: "veil", type: "button", "aria-label": t("nav.close"), onclick: toggleSide }));
  /** @type {HTMLElement | null} */ (side.querySelector("a"))?.focus();
}

/** @returns {import("./parts/palette.js").CommandItem[]} */
function commands() {
  const pages = PAGES.filter(isThere).map((page) => ({ name: t(page.title), icon: page.icon, note: t("palette.page"), run: () => { location.hash = `#/${page.id}`; } }));
  return [
    ...pages,
    { name: t("playground.new"), icon: "plus", note: t("palette.action"), run: () => { location.hash = `#/playground/new-${Date.now()}`; } },
    { name: t("theme"), icon: "moon", note: t("palette.action"), run: nextTheme },
    ...languages(),
  ];
}

/** @returns {import("./parts/palette.js").CommandItem[]} */
function languages() {
  return Object.entries(LANGUAGES).map(([name, own]) => ({
    name: own, icon: "globe", note: t("language"), run: () => setLanguage(/** @type {import("./text.js").Language} */ (name)),
  }));
}

async function go() {
  visit.abort();
  visit = new AbortController();
  const { signal } = visit;
  const [name = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const page = PAGES.find((known) => known.id === name) ?? PAGES[0];
  if (!page) return;
  for (const link of side.querySelectorAll("[data-page]")) {
    if (link.getAttribute("data-page") === page.id) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (side.classList.contains("open")) toggleSide();
  document.title = `${t(page.title)} · Sampan`;
  place.className = "view";
  fill(place, h("h1", {}, t(page.title)), waiting());
  try {
    const view = await page.load();
    if (signal.aborted) return;
    await view.show({ page: place, rest: decodeURIComponent(rest.join("/")), signal });
  } catch (error) {
    if (!signal.aborted) fill(place, h("h1", {}, t(page.title)), trouble(error, go));
  }
}

/** Asks now and then whether the server is there. */
async function watch() {
  try {
    const seen = await platform();
    parts = seen.parts;
    for (const page of PAGES) side.querySelector(`[data-page="${page.id}"]`)?.toggleAttribute("hidden", !isThere(page));
    status.className = seen.ready ? "pulse good" : "pulse";
    status.textContent = seen.ready ? t("status.ready", { version: seen.version }) : t("status.stopping");
  } catch {
    status.className = "pulse bad";
    status.textContent = t("status.lost");
  }
}

/** Nobody has signed in yet, or no more. */
async function welcome() {
  const { show } = await import("./views/signin.js");
  document.documentElement.lang = language;
  document.title = `${t("signin.title")} · Sampan`;
  show(/** @type {HTMLElement} */ (document.getElementById("app")), brand());
}

// The shell of index.html is painted first. A page that nobody looks at has no frames, and does not wait for one.
await new Promise((resolve) => {
  requestAnimationFrame(() => setTimeout(resolve));
  setTimeout(resolve, FRAME_MS_MAX);
});
drawShell();
connection.addEventListener("stranger", () => location.reload());
connection.addEventListener("lost", () => { banner.hidden = false; });
connection.addEventListener("found", () => { banner.hidden = true; });
window.addEventListener("hashchange", go);
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    openPalette(commands());
  }
  if (event.key === "Escape" && side.classList.contains("open")) toggleSide();
});
// The shell is there before the server has said who looks: the first picture waits for nobody.
const who = await session().catch(() => undefined);
if (who === null) {
  await welcome();
} else {
  document.getElementById("leave")?.toggleAttribute("hidden", !who?.keys);
  go();
  watch();
  setInterval(() => { if (!document.hidden) watch(); }, 5000);
}
