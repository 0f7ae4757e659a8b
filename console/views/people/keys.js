/** Keys: their text is shown once, when they are made. */

import { ask } from "../../client.js";
import { h } from "../../parts/dom.js";
import { confirmed, copyButton, formDialog, openDialog, toast } from "../../parts/feedback.js";
import { choice, field } from "../../parts/form.js";
import { card, plainTable, smallButton } from "../../parts/page.js";
import { explain, notice } from "../../parts/state.js";
import { moment, t } from "../../text.js";
import { every, listing } from "../people.js";

const DAY_MS = 86_400_000;

/**
 * @typedef {{ id: string, project: string, project_name: string, name: string, hint: string, role: string, scopes: { dialects: string[], models: string[], buckets: string[] },
 *   created_ms: number, expires_ms: number | null, revoked_ms: number | null, used_ms: number | null }} Key
 * @typedef {{ id: string, name: string, closed_ms: number | null }} Project
 */

/**
 * @param {HTMLElement} body
 * @param {import("../people.js").Desk} desk
 */
export function keysCard(body, desk) {
  const query = { organisation: desk.organisation };
  const look = async (/** @type {AbortSignal} */ signal) => {
    const [keys, projects] = await Promise.all([every("keys", query, signal), every("projects", query, signal)]);
    return { keys: /** @type {Key[]} */ (keys), projects: /** @type {Project[]} */ (projects).filter((project) => !project.closed_ms) };
  };
  return listing(body, desk, look, ({ keys, projects }, again) => {
    const add = desk.roles.length > 0 && projects.length > 0 ? smallButton(t("people.key.new"), () => make(desk, projects, again), { class: "button small first" }) : null;
    const inside = keys.length === 0 ? notice({ icon: "keys", title: t("people.keys.empty"), text: t("people.keys.empty.text") })
      : plainTable([t("people.name"), t("people.role"), t("people.project"), t("people.goodfor"), t("people.used"), t("people.state"), ">"], keys.map((key) => row(key, again)));
    return card(t("people.keys"), [h("span", { class: "push" }, add ?? "")], inside);
  });
}

/**
 * @param {Key} key
 * @param {() => Promise<void>} again
 */
function row(key, again) {
  const scopes = [...key.scopes.dialects, ...key.scopes.models, ...key.scopes.buckets];
  const isOver = key.revoked_ms !== null || (key.expires_ms !== null && key.expires_ms < Date.now());
  const state = key.revoked_ms !== null ? t("people.revoked") : isOver ? t("people.expired") : key.expires_ms ? t("people.until", { when: moment(key.expires_ms) }) : t("people.valid");
  const revoke = isOver ? null : smallButton(t("people.revoke"), async () => {
    if (!(await confirmed(t("people.revoke.title", { name: key.name }), t("people.revoke.text"), t("people.revoke")))) return;
    await ask(`/admin/v1/keys/${encodeURIComponent(key.id)}`, { method: "DELETE" }).then(again, (error) => toast(explain(error), "bad"));
  });
  return [
    h("div", {}, h("b", {}, key.name), h("div", { class: "soft mono" }, key.hint)), key.role, key.project_name, scopes.length > 0 ? scopes.join(", ") : t("people.everything"),
    key.used_ms ? moment(key.used_ms) : t("people.never"), h("span", { class: isOver ? "pill" : "pill good" }, state), revoke,
  ];
}

/**
 * @param {import("../people.js").Desk} desk
 * @param {Project[]} projects
 * @param {() => Promise<void>} again
 */
function make(desk, projects, again) {
  let [project, role] = [projects[0]?.id ?? "", desk.roles.includes("developer") ? "developer" : desk.roles[0] ?? ""];
  const name = h("input", { class: "input", required: true, autocomplete: "off" });
  const days = h("input", { class: "input", type: "number", min: 1, max: 3650, placeholder: t("people.never") });
  const models = h("input", { class: "input", autocomplete: "off", placeholder: "qwen3*, sampan-nano" });
  const fields = [
    field(t("people.name"), name),
    field(t("people.project"), choice(projects.map((one) => ({ value: one.id, label: one.name })), project, (value) => { project = value; })),
    field(t("people.role"), choice(desk.roles.map((value) => ({ value, label: value })), role, (value) => { role = value; })),
    field(t("people.days"), days), field(t("people.models"), models, t("people.models.hint")),
  ];
  formDialog(t("people.key.new"), fields, t("people.key.make"), async () => {
    const scopes = { dialects: [], models: models.value.split(",").map((one) => one.trim()).filter(Boolean), buckets: [] };
    const body = { project, name: name.value, role, scopes, ...(days.value ? { expires_ms: Date.now() + Number(days.value) * DAY_MS } : {}) };
    const made = await ask("/admin/v1/keys", { method: "POST", body });
    await again();
    shown(made.key);
  });
}

/** @param {string} text */
function shown(text) {
  openDialog({ title: t("people.key.made") }, h("p", { class: "soft" }, t("people.key.once")),
    h("div", { class: "snippet" }, h("pre", { tabindex: 0 }, h("code", {}, text)), copyButton(() => text)));
}
