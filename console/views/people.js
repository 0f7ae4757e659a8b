/** Keys, members, projects and organisations: who there is, and what each may do. */

import { ask, session } from "../client.js";
import { fill, h } from "../parts/dom.js";
import { choice, tabs } from "../parts/form.js";
import { pageHead } from "../parts/page.js";
import { loaded, trouble } from "../parts/state.js";
import { t } from "../text.js";
import { keysCard } from "./people/keys.js";
import { membersCard, organisationsCard, projectsCard } from "./people/lists.js";

/** Rows of a list at most; who has more uses the API. */
const ROWS_MAX = 2000;
/** Roles that may be given, by the role of whoever gives. */
const GRANTS = /** @type {Record<string, string[]>} */ ({
  owner: ["owner", "admin", "developer", "viewer", "billing"], admin: ["admin", "developer", "viewer"], developer: ["developer", "viewer"],
});

/**
 * What the cards of this page work with.
 *
 * @typedef {object} Desk
 * @property {string} organisation
 * @property {string[]} roles that may be given
 * @property {boolean} manages
 * @property {AbortSignal} signal
 */

/** @param {import("../app.js").Visit} visit */
export async function show({ page, signal }) {
  const who = await session();
  if (signal.aborted) return;
  const head = pageHead(t("nav.people"), t("people.lead"));
  if (!who?.keys || !who.role) {
    fill(page, head, trouble(new Error(t("config.open"))));
    return;
  }
  const desk = { organisation: who.organisation ?? "", roles: GRANTS[who.role] ?? [], manages: who.role === "owner" || who.role === "admin", signal };
  const body = h("div", {});
  const cards = [
    { name: t("people.keys"), draw: keysCard }, { name: t("people.members"), draw: membersCard }, { name: t("people.projects"), draw: projectsCard },
    ...(who.runs_place ? [{ name: t("people.organisations"), draw: organisationsCard }] : []),
  ];
  let at = 0;
  const draw = () => { cards[at]?.draw(body, desk); };
  const bar = tabs(t("nav.people"), cards.map((card, index) => ({ name: card.name, show: () => { at = index; draw(); } })));
  const pick = h("div", {});
  fill(page, head, h("div", { class: "filters bring" }, bar, pick), body);
  if (!who.runs_place) return;
  const all = await every("organisations", {}, signal).catch(() => []);
  if (all.length < 2) return;
  const options = all.filter((one) => !one.closed_ms).map((one) => ({ value: one.id, label: one.name }));
  fill(pick, choice(options, desk.organisation, (value) => { desk.organisation = value; draw(); }, { "aria-label": t("people.organisation") }));
}

/**
 * All rows of a list.
 *
 * @param {string} what
 * @param {Record<string, string>} query
 * @param {AbortSignal} signal
 * @returns {Promise<any[]>}
 */
export async function every(what, query, signal) {
  const rows = [];
  let after = "";
  do {
    const seen = await ask(`/admin/v1/${what}?${new URLSearchParams({ ...query, limit: "1000", ...(after ? { after } : {}) })}`, { signal });
    rows.push(...seen.data);
    after = seen.has_more ? seen.last_id : "";
  } while (after && rows.length < ROWS_MAX);
  return rows;
}

/**
 * Shows a card, and shows it again after every change.
 *
 * @template T
 * @param {HTMLElement} body
 * @param {Desk} desk
 * @param {(signal: AbortSignal) => Promise<T>} look
 * @param {(seen: T, again: () => Promise<void>) => Node} draw
 */
export async function listing(body, desk, look, draw) {
  const again = () => loaded(body, look, (seen) => draw(seen, again), desk.signal);
  await again();
}
