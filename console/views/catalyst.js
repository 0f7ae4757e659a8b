/** Programmes that give credit to young companies: apply, review, grant, and how what was given is used up. */

import { ask } from "../client.js";
import { bars } from "../parts/chart.js";
import { fill, h } from "../parts/dom.js";
import { confirmed, openDialog, toast } from "../parts/feedback.js";
import { choice, field } from "../parts/form.js";
import { icon } from "../parts/icon.js";
import { card, meter, pageHead, plainTable, smallButton } from "../parts/page.js";
import { explain, loaded, notice } from "../parts/state.js";
import { compact, count, dayName, dollars, moment, t, wholeDay } from "../text.js";

const BASE = "/admin/v1/programmes";
const DAY_MS = 86_400_000;
/** Days of a burn-down. */
const DAYS = 30;

/**
 * @typedef {{ name: string, title: string, tokens_max: number, micro_max: number, rules: { company_age_years_max: number | null, stages: string[], countries: string[], again: boolean },
 *   tranches: { percent: number, milestone: string, valid_days: number }[] }} Programme
 * @typedef {{ id: string, programme: string, project: string, company: { name: string, founded: string, stage: string, country: string }, tokens: number, micro: number, note: string,
 *   state: string, reviewer: string, reason: string, created_ms: number }} Filed
 */

/** @param {import("../app.js").Visit} visit */
export async function show({ page, rest, signal }) {
  const body = h("div", {});
  if (rest) {
    fill(page, h("div", { class: "head" }, h("div", {}, h("a", { class: "back", href: "#/catalyst" }, t("catalyst.back")), h("h1", {}, t("catalyst.grant")), h("p", { class: "mono" }, rest))), body);
    const again = () => loaded(body, (until) => ask(`${BASE}/grants/${encodeURIComponent(rest)}`, { signal: until }), (standing) => grantPage(standing, again), signal);
    return again();
  }
  fill(page, pageHead(t("nav.catalyst"), t("catalyst.lead")), body);
  const load = async (/** @type {AbortSignal} */ until) => {
    const [programmes, filed, grants] = await Promise.all(["", "/applications", "/grants"].map((path) => ask(BASE + path, { signal: until })));
    return { programmes: programmes.data, filed: filed.data, grants: grants.data };
  };
  const again = () => loaded(body, load, (seen) => h("div", { class: "stack" },
    ...seen.programmes.map((/** @type {Programme} */ programme) => programmeCard(programme, again)), applications(seen.filed, again), grantsCard(seen.grants)), signal);
  await again();
}

/**
 * @param {string} path
 * @param {unknown} body
 * @param {() => void} again
 */
async function act(path, body, again) {
  try {
    await ask(BASE + path, { method: "POST", body });
    again();
    return true;
  } catch (error) {
    toast(explain(error), "bad");
    return false;
  }
}

/**
 * @param {Programme} programme
 * @param {() => void} again
 */
function programmeCard(programme, again) {
  const { rules } = programme;
  const apply = h("button", { class: "button first", type: "button", onclick: () => applyForm(programme, again) }, icon("plus"), t("catalyst.apply"));
  /** @type {[string, string][]} */
  const facts = [
    [t("catalyst.most"), `${count(programme.tokens_max)} ${t("logs.tokens")}, ${dollars(programme.micro_max)}`],
    [t("catalyst.age"), rules.company_age_years_max === null ? t("catalyst.any") : t("catalyst.years", { count: rules.company_age_years_max })],
    [t("catalyst.stages"), rules.stages.join(", ") || t("catalyst.any")], [t("catalyst.countries"), rules.countries.join(", ") || t("catalyst.any")],
  ];
  const parts = programme.tranches.map((tranche) => [`${tranche.percent} %`, tranche.milestone || t("catalyst.once"), t("usage.days", { count: tranche.valid_days })]);
  return card(programme.title, [h("span", { class: "pill" }, programme.name), apply],
    h("dl", { class: "inside facts two" }, facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    plainTable([`>${t("catalyst.share")}`, t("catalyst.milestone"), t("catalyst.valid")], parts));
}

/**
 * A dialog with fields, whose answer is sent.
 *
 * @param {string} title
 * @param {{ name: string, label: string, value?: string, type?: string, options?: string[], optional?: boolean }[]} fields
 * @param {string} action
 * @param {(values: Record<string, string>) => Promise<boolean>} done
 */
function askFor(title, fields, action, done) {
  /** @type {Record<string, string>} */
  const values = {};
  const rows = fields.map(({ name, label, value = "", type = "text", options, optional }) => {
    values[name] = value;
    if (options?.length) {
      values[name] = options[0] ?? "";
      return field(label, choice(options.map((option) => ({ value: option, label: option })), values[name], (chosen) => { values[name] = chosen; }));
    }
    const input = h("input", { class: "input", type, required: !optional, value, autocomplete: "off" });
    input.addEventListener("input", () => { values[name] = input.value; });
    return field(label, input);
  });
  const form = h("form", { class: "stack tight" }, ...rows, h("button", { class: "button first", type: "submit" }, action));
  const dialog = openDialog({ title }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await done(values)) dialog.close();
  });
}

/**
 * @param {Programme} programme
 * @param {() => void} again
 */
function applyForm(programme, again) {
  askFor(t("catalyst.apply"), [
    { name: "project", label: t("usage.project"), value: "local" }, { name: "name", label: t("catalyst.company") },
    { name: "founded", label: t("catalyst.founded"), type: "date" }, { name: "stage", label: t("catalyst.stage"), options: programme.rules.stages },
    { name: "country", label: t("catalyst.country"), value: programme.rules.countries[0] ?? "" }, { name: "tokens", label: t("logs.tokens"), type: "number", value: "100000000" },
    { name: "dollars", label: t("usage.dollars"), value: "1000" }, { name: "note", label: t("catalyst.note"), optional: true },
  ], t("catalyst.apply"), (values) => act("/apply", {
    programme: programme.name, project: values.project, company: { name: values.name, founded: values.founded, stage: values.stage, country: values.country },
    tokens: Number(values.tokens), dollars: values.dollars, note: values.note,
  }, again));
}

/**
 * @param {Filed[]} filed
 * @param {() => void} again
 */
function applications(filed, again) {
  if (filed.length === 0) return card(t("catalyst.applications"), [], notice({ icon: "file", title: t("catalyst.applications.empty"), text: t("catalyst.applications.text") }));
  const grant = (/** @type {Filed} */ one) => askFor(t("catalyst.give"), [
    { name: "tokens", label: t("logs.tokens"), type: "number", value: String(one.tokens) }, { name: "dollars", label: t("usage.dollars"), value: String(one.micro / 1e6) },
    { name: "reason", label: t("logs.reason"), optional: true },
  ], t("catalyst.give"), (values) => act(`/applications/${one.id}/grant`, { tokens: Number(values.tokens), dollars: values.dollars, reason: values.reason }, again));
  const reject = (/** @type {Filed} */ one) => askFor(t("catalyst.reject"), [{ name: "reason", label: t("logs.reason") }], t("catalyst.reject"),
    (values) => act(`/applications/${one.id}/reject`, { reason: values.reason }, again));
  const rows = filed.map((one) => [
    h("div", {}, h("strong", {}, one.company.name), h("div", { class: "soft" }, [one.company.country, one.company.stage, one.company.founded].join(" · "))),
    one.project, `${compact(one.tokens)} · ${dollars(one.micro)}`, moment(one.created_ms),
    h("div", {}, h("span", { class: one.state === "granted" ? "pill good" : one.state === "rejected" ? "pill bad" : "pill warn" }, one.state), one.reason ? h("div", { class: "soft" }, one.reason) : null),
    one.state === "submitted" ? h("div", { class: "actions" }, smallButton(t("catalyst.give"), () => grant(one)), smallButton(t("catalyst.reject"), () => reject(one))) : null,
  ]);
  return card(t("catalyst.applications"), [], plainTable([t("catalyst.company"), t("usage.project"), t("catalyst.asked"), t("batches.made"), t("models.state"), ""], rows));
}

/** @param {any[]} grants */
function grantsCard(grants) {
  if (grants.length === 0) return card(t("catalyst.grants"), [], notice({ icon: "usage", title: t("catalyst.grants.empty") }));
  const rows = grants.map((grant) => [h("a", { href: `#/catalyst/${encodeURIComponent(grant.id)}`, class: "mono" }, grant.id), grant.programme, grant.project, count(grant.tokens), dollars(grant.micro)]);
  return card(t("catalyst.grants"), [], plainTable([t("catalyst.grant"), t("catalyst.programme"), t("usage.project"), `>${t("logs.tokens")}`, `>${t("usage.dollars")}`], rows));
}

/**
 * @param {any} standing
 * @param {() => void} again
 */
function grantPage(standing, again) {
  const path = `/grants/${encodeURIComponent(standing.id)}`;
  const release = (/** @type {any} */ tranche) => askFor(t("catalyst.release"), [{ name: "evidence", label: t("catalyst.evidence") }], t("catalyst.release"),
    (values) => act(`${path}/release`, { tranche: tranche.number, evidence: values.evidence }, again));
  const back = async () => {
    if (!(await confirmed(t("catalyst.claw"), t("catalyst.claw.text"), t("catalyst.claw")))) return;
    askFor(t("catalyst.claw"), [{ name: "reason", label: t("logs.reason") }], t("catalyst.claw"), (values) => act(`${path}/claw-back`, { reason: values.reason }, again));
  };
  const rest = (/** @type {any} */ tranche, /** @type {number} */ left, /** @type {number} */ all, /** @type {(value: number) => string} */ say) => (
    tranche.state === "released" ? meter(all - left, all, t("catalyst.left", { left: say(left), all: say(all) })) : say(all));
  const tranches = standing.tranches.map((/** @type {any} */ tranche) => [
    String(tranche.number), tranche.milestone || t("catalyst.once"), h("span", { class: tranche.state === "released" ? "pill good" : "pill" }, tranche.state),
    rest(tranche, tranche.tokens_left, tranche.tokens, compact), rest(tranche, tranche.micro_left, tranche.micro, dollars),
    tranche.expires_ms ? wholeDay(tranche.expires_ms) : "", tranche.state === "waiting" && standing.state === "active" ? smallButton(t("catalyst.release"), () => release(tranche)) : null,
  ]);
  const now = Date.now();
  const first = now - (now % DAY_MS) - (DAYS - 1) * DAY_MS;
  const steps = Array.from({ length: DAYS }, (_, at) => {
    const start = first + at * DAY_MS;
    return { start, name: dayName(start), values: [standing.burned.find((/** @type {any} */ burn) => burn.day_ms === start)?.tokens ?? 0] };
  });
  const pill = h("span", { class: standing.state === "active" ? "pill good" : "pill bad" }, standing.state);
  const end = standing.used_up_ms ? h("small", { class: "soft" }, t("catalyst.used_up", { day: wholeDay(standing.used_up_ms) })) : null;
  const take = standing.state === "active" ? h("button", { class: "button small bad", type: "button", onclick: back }, t("catalyst.claw")) : null;
  return h("div", { class: "stack" },
    card(`${standing.programme} · ${standing.project}`, [pill, take], plainTable([">#", t("catalyst.milestone"), t("models.state"), t("logs.tokens"), t("usage.dollars"), t("usage.until"), ""], tranches)),
    card(t("catalyst.burn"), [end], bars({ label: t("catalyst.burn"), steps, series: [t("logs.tokens")], say: compact })),
    card(t("catalyst.trail"), [], plainTable([t("logs.time"), t("catalyst.actor"), t("catalyst.action"), t("catalyst.detail")],
      standing.trail.map((/** @type {any} */ event) => [`${wholeDay(event.at_ms)}`, event.actor, event.action, event.detail]))));
}
