/** Members, projects and organisations. */

import { ask } from "../../client.js";
import { h } from "../../parts/dom.js";
import { confirmed, formDialog, toast } from "../../parts/feedback.js";
import { choice, field } from "../../parts/form.js";
import { card, plainTable, smallButton } from "../../parts/page.js";
import { explain, notice } from "../../parts/state.js";
import { moment, t } from "../../text.js";
import { every, listing } from "../people.js";

/** @typedef {import("../people.js").Desk} Desk */

/**
 * @param {string} path
 * @param {string} method
 * @param {unknown} body
 * @param {() => Promise<void>} again
 */
async function change(path, method, body, again) {
  try {
    await ask(`/admin/v1/${path}`, { method, ...(body ? { body } : {}) });
  } catch (error) {
    toast(explain(error), "bad");
  }
  await again();
}

/**
 * A button that asks before it removes or closes something.
 *
 * @param {string} word
 * @param {string} name
 * @param {string} path
 * @param {() => Promise<void>} again
 */
function remover(word, name, path, again) {
  return smallButton(word, async () => {
    if (await confirmed(`${word}: ${name}`, t("people.remove.text"), word)) await change(path, "DELETE", null, again);
  });
}

/** @param {HTMLElement} body @param {Desk} desk */
export function membersCard(body, desk) {
  const look = (/** @type {AbortSignal} */ signal) => every("members", { organisation: desk.organisation }, signal);
  return listing(body, desk, look, (members, again) => {
    const rows = members.map((member) => {
      const roles = desk.roles.includes(member.role) ? desk.roles : [];
      const role = desk.manages && roles.length > 0
        ? choice(roles.map((value) => ({ value, label: value })), member.role, (value) => change(`members/${member.id}`, "PATCH", { role: value }, again), { "aria-label": `${t("people.role")}: ${member.name}` })
        : member.role;
      return [h("b", {}, member.name), member.email ?? "–", role, moment(member.created_ms), desk.manages && roles.length > 0 ? remover(t("people.remove"), member.name, `members/${member.id}`, again) : null];
    });
    const inside = rows.length === 0 ? notice({ icon: "keys", title: t("people.members.empty"), text: t("people.members.empty.text") })
      : plainTable([t("people.name"), t("people.email"), t("people.role"), t("people.since"), ">"], rows);
    return card(t("people.members"), [h("span", { class: "push" }, desk.manages ? smallButton(t("people.member.new"), () => newMember(desk, again), { class: "button small first" }) : "")], inside);
  });
}

/** @param {Desk} desk @param {() => Promise<void>} again */
function newMember(desk, again) {
  const name = h("input", { class: "input", required: true, autocomplete: "off" });
  const email = h("input", { class: "input", type: "email", autocomplete: "off" });
  let role = desk.roles.includes("developer") ? "developer" : desk.roles[0] ?? "";
  const fields = [field(t("people.name"), name), field(t("people.email"), email), field(t("people.role"), choice(desk.roles.map((value) => ({ value, label: value })), role, (value) => { role = value; }))];
  formDialog(t("people.member.new"), fields, t("people.add"), async () => {
    await ask("/admin/v1/members", { method: "POST", body: { organisation: desk.organisation, name: name.value, role, ...(email.value ? { email: email.value } : {}) } });
    await again();
  });
}

/** @param {HTMLElement} body @param {Desk} desk */
export function projectsCard(body, desk) {
  return named(body, desk, "projects", { organisation: desk.organisation }, desk.manages, t("people.projects"), t("people.project.new"));
}

/** @param {HTMLElement} body @param {Desk} desk */
export function organisationsCard(body, desk) {
  return named(body, desk, "organisations", {}, desk.manages, t("people.organisations"), t("people.organisation.new"));
}

/**
 * A list of what only has a name, and can be made and closed.
 *
 * @param {HTMLElement} body
 * @param {Desk} desk
 * @param {"projects" | "organisations"} what
 * @param {Record<string, string>} query
 * @param {boolean} mayMake
 * @param {string} title
 * @param {string} action
 */
function named(body, desk, what, query, mayMake, title, action) {
  const make = (/** @type {() => Promise<void>} */ again) => {
    const name = h("input", { class: "input", required: true, autocomplete: "off" });
    formDialog(action, [field(t("people.name"), name)], t("people.add"), async () => {
      await ask(`/admin/v1/${what}`, { method: "POST", body: { name: name.value, ...query } });
      await again();
    });
  };
  return listing(body, desk, (signal) => every(what, query, signal), (found, again) => {
    const rows = found.map((one) => [
      h("div", {}, h("b", {}, one.name), h("div", { class: "soft mono" }, one.id)), moment(one.created_ms),
      h("span", { class: one.closed_ms ? "pill" : "pill good" }, t(one.closed_ms ? "people.closed" : "people.open")),
      mayMake && !one.closed_ms && !one.runs_place ? remover(t("people.close"), one.name, `${what}/${one.id}`, again) : null,
    ]);
    return card(title, [h("span", { class: "push" }, mayMake ? smallButton(action, () => make(again), { class: "button small first" }) : "")],
      plainTable([t("people.name"), t("people.since"), t("people.state"), ">"], rows));
  });
}
