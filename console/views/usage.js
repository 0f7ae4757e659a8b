/** What was used, by whom, and what it costs; and the money behind it. */

import { ask, usage } from "../client.js";
import { bars, COLOURS } from "../parts/chart.js";
import { fill, h } from "../parts/dom.js";
import { choice, tabs } from "../parts/form.js";
import { icon } from "../parts/icon.js";
import { card, download, pageHead, plainTable, smallButton } from "../parts/page.js";
import { loaded, notice } from "../parts/state.js";
import { windowed } from "../parts/table.js";
import { clockTime, compact, count, dayName, dollars, duration, t, wholeDay } from "../text.js";
import { billing } from "./usage/billing.js";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
/** Requests that are listed. */
const LISTED = 1000;

/**
 * @typedef {"model" | "project" | "key" | "activity" | "region"} Side
 * @typedef {"price_micro" | "requests" | "tokens"} Measure
 * @typedef {{ days: number, day: number, by: Side, measure: Measure, only: { [side in Side]?: string } }} Asked
 * @typedef {import("../client.js").Total} Total
 */

/** @type {Side[]} */
const SIDES = ["model", "project", "key", "activity", "region"];
/** What the server filters by; the rest is filtered here. */
const ASKABLE = ["model", "project", "key"];

/** @param {import("../app.js").Visit} visit */
export async function show({ page, signal }) {
  const body = h("div", {});
  const bar = tabs(t("nav.usage"), [
    { name: t("usage.used"), show: () => used(body, signal) },
    { name: t("usage.billing"), show: () => billing(body, signal) },
  ]);
  fill(page, pageHead(t("nav.usage"), t("usage.lead"), bar), body);
}

/**
 * @param {HTMLElement} body
 * @param {AbortSignal} signal
 */
function used(body, signal) {
  /** @type {Asked} */
  const asked = { days: 30, day: 0, by: "model", measure: "price_micro", only: {} };
  const place = h("div", {});
  const controls = h("div", { class: "filters" });
  const again = () => {
    fill(controls, control(asked, again));
    loaded(place, (until) => found(asked, until), (totals) => draw(totals, asked, again, signal), signal);
  };
  fill(body, h("div", { class: "stack" }, controls, place));
  again();
}

/** @param {Asked} asked */
function query(asked) {
  const now = Date.now();
  const from = asked.day || now - (now % DAY_MS) - (asked.days - 1) * DAY_MS;
  /** @type {Record<string, string>} */
  const fields = { by: asked.day ? "hour" : "day", from: iso(from) };
  if (asked.day) fields.to = iso(asked.day + DAY_MS);
  for (const side of SIDES) {
    const only = asked.only[side];
    if (only && ASKABLE.includes(side)) fields[side] = only;
  }
  return fields;
}

/** @param {number} milliseconds */
function iso(milliseconds) {
  return new Date(milliseconds).toISOString().slice(0, 10);
}

/**
 * @param {Asked} asked
 * @param {AbortSignal} signal
 */
async function found(asked, signal) {
  const totals = await usage(query(asked), signal);
  return totals.filter((total) => SIDES.every((side) => !asked.only[side] || total[side] === asked.only[side]));
}

/**
 * @param {Asked} asked
 * @param {() => void} again
 */
function control(asked, again) {
  const days = choice([7, 30, 90].map((value) => ({ value: String(value), label: t("usage.days", { count: value }) })), String(asked.days),
    (value) => { asked.days = Number(value); asked.day = 0; again(); }, { "aria-label": t("usage.range") });
  const by = choice(SIDES.map((side) => ({ value: side, label: t(`usage.by.${side}`) })), asked.by,
    (value) => { asked.by = /** @type {Side} */ (value); again(); }, { "aria-label": t("usage.by") });
  const measure = choice([{ value: "price_micro", label: t("usage.cost") }, { value: "tokens", label: t("logs.tokens") }, { value: "requests", label: t("logs.requests") }], asked.measure,
    (value) => { asked.measure = /** @type {Measure} */ (value); again(); }, { "aria-label": t("usage.measure") });
  const chips = SIDES.filter((side) => asked.only[side]).map((side) => chip(`${t(`usage.${side}`)}: ${asked.only[side]}`, () => { delete asked.only[side]; again(); }));
  if (asked.day) chips.unshift(chip(wholeDay(asked.day), () => { asked.day = 0; again(); }));
  const fields = query(asked);
  const csv = `/admin/v1/usage?${new URLSearchParams({ ...fields, format: "csv" })}`;
  const json = `/admin/v1/usage?${new URLSearchParams(fields)}`;
  return [days, by, measure, ...chips, h("span", { class: "push" }, download(csv, "usage.csv"), download(json, "usage.json"))]
    .map((node, at, all) => (at === all.length - 1 ? labelled(node) : node));
}

/** @param {HTMLElement} exports */
function labelled(exports) {
  const [csv, json] = exports.children;
  if (csv) fill(csv, icon("download"), "CSV");
  if (json) fill(json, icon("download"), "JSON");
  return exports;
}

/**
 * @param {string} text
 * @param {() => void} remove
 */
function chip(text, remove) {
  return h("button", { class: "button small chip", type: "button", "aria-label": t("usage.without", { filter: text }), onclick: remove }, text, icon("close"));
}

/** @param {Total} total @param {Measure} measure */
function measured(total, measure) {
  return measure === "tokens" ? total.tokens_in + total.tokens_out : total[measure];
}

/**
 * @param {Total[]} totals
 * @param {Asked} asked
 * @param {() => void} again
 * @param {AbortSignal} signal
 */
function draw(totals, asked, again, signal) {
  if (totals.length === 0) {
    return notice({ icon: "usage", title: t("usage.empty"), text: t("usage.empty.text"), action: h("a", { class: "button first", href: "#/playground" }, icon("playground"), t("overview.talk")) });
  }
  const groups = grouped(totals, asked);
  const names = groups.slice(0, COLOURS - 1).map((group) => group.name);
  const rest = groups.length > names.length ? [t("usage.others")] : [];
  const step = asked.day ? HOUR_MS : DAY_MS;
  const now = Date.now();
  const first = asked.day || now - (now % DAY_MS) - (asked.days - 1) * DAY_MS;
  const steps = Array.from({ length: asked.day ? 24 : asked.days }, (_, at) => {
    const start = first + at * step;
    const values = [...names, ...rest].map(() => 0);
    for (const total of totals.filter((one) => one.start_ms === start)) {
      const index = names.indexOf(total[asked.by]);
      values[index < 0 ? names.length : index] = (values[index < 0 ? names.length : index] ?? 0) + measured(total, asked.measure);
    }
    return { start, name: asked.day ? `${at}:00` : dayName(start), values };
  });
  const say = asked.measure === "price_micro" ? dollars : compact;
  const open = asked.day ? null : (/** @type {number} */ start) => { asked.day = start; again(); };
  const chart = bars({ label: t("usage.chart"), steps, series: [...names, ...rest].map(shown), say, ...(open ? { open } : {}) });
  const sum = (/** @type {(total: Total) => number} */ of) => totals.reduce((all, total) => all + of(total), 0);
  const figures = h("dl", { class: "grid figures" },
    figure(t("usage.cost"), dollars(sum((total) => total.price_micro))), figure(t("logs.requests"), count(sum((total) => total.requests))),
    figure(t("usage.in"), compact(sum((total) => total.tokens_in))), figure(t("usage.cached"), compact(sum((total) => total.tokens_cached))), figure(t("usage.out"), compact(sum((total) => total.tokens_out))));
  const parts = h("div", { class: "stack" }, figures, card(t("usage.chart"), [asked.day ? null : h("small", { class: "soft" }, t("usage.press"))], chart),
    card(t(`usage.by.${asked.by}`), [], table(groups, asked, again)), requests(asked, signal));
  return parts;
}

/** @param {string} name */
function shown(name) {
  return name || t("usage.nobody");
}

/** @param {string} name @param {string} value */
function figure(name, value) {
  return h("div", { class: "card figure" }, h("dt", {}, name), h("dd", {}, value));
}

/**
 * @param {Total[]} totals
 * @param {Asked} asked
 */
function grouped(totals, asked) {
  /** @type {Map<string, { name: string, requests: number, tokens_in: number, tokens_cached: number, tokens_out: number, price_micro: number, weight: number }>} */
  const groups = new Map();
  for (const total of totals) {
    const name = total[asked.by];
    const group = groups.get(name) ?? { name, requests: 0, tokens_in: 0, tokens_cached: 0, tokens_out: 0, price_micro: 0, weight: 0 };
    for (const field of /** @type {const} */ (["requests", "tokens_in", "tokens_cached", "tokens_out", "price_micro"])) group[field] += total[field];
    group.weight += measured(total, asked.measure);
    groups.set(name, group);
  }
  return [...groups.values()].sort((left, right) => right.weight - left.weight);
}

/**
 * @param {ReturnType<typeof grouped>} groups
 * @param {Asked} asked
 * @param {() => void} again
 */
function table(groups, asked, again) {
  const into = (/** @type {string} */ name) => {
    asked.only[asked.by] = name;
    asked.by = SIDES.find((side) => !asked.only[side]) ?? asked.by;
    again();
  };
  const rows = groups.map((group) => [
    group.name && !asked.only[asked.by] ? smallButton(group.name, () => into(group.name)) : shown(group.name),
    count(group.requests), count(group.tokens_in), count(group.tokens_cached), count(group.tokens_out), dollars(group.price_micro),
  ]);
  return plainTable([t(`usage.${asked.by}`), `>${t("logs.requests")}`, `>${t("usage.in")}`, `>${t("usage.cached")}`, `>${t("usage.out")}`, `>${t("usage.cost")}`], rows);
}

/**
 * Single requests, when somebody asks for them.
 *
 * @param {Asked} asked
 * @param {AbortSignal} signal
 */
function requests(asked, signal) {
  const place = h("div", { class: "inside" });
  const list = async (/** @type {AbortSignal} */ until) => (await ask(`/admin/v1/usage?${new URLSearchParams({ ...query(asked), by: "request", limit: String(LISTED) })}`, { signal: until })).data;
  const look = () => loaded(place, list, (all) => {
    place.className = "";
    const rows = windowed({
      label: t("usage.single"), widths: "9rem minmax(7rem, 1fr) minmax(6rem, 1fr) 6rem 6rem 6rem 5rem 6rem",
      columns: [{ title: t("logs.time") }, { title: t("usage.model") }, { title: t("usage.project") }, { title: t("models.state") }, { title: t("usage.in"), right: true }, { title: t("usage.out"), right: true }, { title: t("logs.whole"), right: true }, { title: t("usage.cost"), right: true }],
      cells: (/** @type {any} */ record) => [`${dayName(record.at_ms)} ${clockTime(record.at_ms)}`, record.model, shown(record.project), record.outcome, count(record.tokens_in), count(record.tokens_out), duration(record.latency_ms), dollars(record.price_micro)],
    });
    rows.set(all);
    return rows.element;
  }, signal);
  fill(place, smallButton(t("usage.list"), look));
  return card(t("usage.single"), [], place);
}
