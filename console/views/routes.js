/** Where requests go: the map, the pools and how they are, and why one request would go where it goes. */

import { ask } from "../client.js";
import { fill, h, s } from "../parts/dom.js";
import { field } from "../parts/form.js";
import { icon } from "../parts/icon.js";
import { LAND } from "../parts/land.js";
import { card, pageHead, plainTable } from "../parts/page.js";
import { every, loaded, notice, trouble } from "../parts/state.js";
import { clockTime, count, decimal, t } from "../text.js";

const LOOK_MS = 3000;

/**
 * @typedef {{ name: string, latitude: number, longitude: number, jurisdictions: string[], carbon_g_per_kwh: number }} Region
 * @typedef {{ name: string, form: string | null, server: string | null, url: string | null, place: { computes: Region | null } | null, running: number, running_max: number | null,
 *   health: { checked: boolean, healthy: boolean, complaint: string | null, breaker: string | object, busy_until_ms: number | null, first_byte_ms: number | null },
 *   counts: { sent: number, finished: number, failed: number, retried: number } }} Pool
 * @typedef {{ policy_version: number, home: string | null, regions: Region[], residency: any[], pools: Pool[],
 *   routes: { model: string, fallback: string[], groups: { name: string, weight: number, targets: { pool: string, model: string, weight: number }[] }[] }[],
 *   recent: { time_ms: number, request_id: string, model: string, choice: { pool: string, model: string, by: string } | null, refusal: { reason: string } | null }[] }} Fleet
 */

/** @param {import("../app.js").Visit} visit */
export async function show({ page, signal }) {
  const body = h("div", {});
  fill(page, pageHead(t("nav.routes"), t("routes.lead")), body);
  const look = (/** @type {AbortSignal} */ until) => /** @type {Promise<Fleet>} */ (ask("/admin/v1/routes", { signal: until }));
  await loaded(body, look, (first) => {
    const live = h("div", { class: "stack" });
    const recent = h("div", {});
    const draw = (/** @type {Fleet} */ fleet) => {
      fill(live, card(t("routes.map"), [], map(fleet)), card(t("routes.pools"), [h("span", { class: "pill" }, t("routes.version", { version: fleet.policy_version }))], pools(fleet.pools)));
      fill(recent, decisions(fleet));
    };
    draw(first);
    every(LOOK_MS, signal, async () => draw(await look(signal)));
    return h("div", { class: "stack" }, live, explainer(first, signal), card(t("routes.routes"), [], routes(first)), card(t("routes.recent"), [], recent));
  }, signal);
}

/** @param {Pool} pool */
function isWell(pool) {
  return pool.health.healthy && pool.health.breaker === "closed";
}

/** @param {Pool} pool */
function regionOf(pool) {
  return pool.place?.computes?.name ?? null;
}

/** The regions of the pools on the earth, and the ways there from home. @param {Fleet} fleet */
export function map(fleet) {
  const used = new Set(fleet.pools.map(regionOf));
  const drawing = s("svg", { class: "chart map", viewBox: "0 20 720 270", role: "img", "aria-label": t("routes.map") }, s("path", { d: LAND, class: "land" }));
  const home = fleet.regions.find((region) => region.name === fleet.home);
  const at = (/** @type {Region} */ region) => ({ x: 360 + region.longitude * 2, y: 180 - region.latitude * 2 });
  for (const region of fleet.regions) {
    const { x, y } = at(region);
    const here = fleet.pools.filter((pool) => regionOf(pool) === region.name);
    const isIdle = !used.has(region.name);
    if (home && home !== region && !isIdle) {
      const from = at(home);
      drawing.append(s("path", { class: "way", d: `M${from.x},${from.y} Q${(from.x + x) / 2},${Math.min(from.y, y) - 30} ${x},${y}` }));
    }
    const look = isIdle ? "place" : here.every(isWell) ? "place good" : "place bad";
    // Names of neighbours do not lie on each other.
    const isWest = home && region.longitude < home.longitude;
    const words = `${region.name} (${region.jurisdictions.join(", ")}): ${here.map((pool) => pool.name).join(", ") || t("routes.nobody")}`;
    drawing.append(s("g", { class: look }, s("title", {}, words), s("circle", { cx: x, cy: y, r: isIdle ? 2.5 : 5 }),
      region === home || !isIdle ? s("text", isWest ? { x: x - 8, y: y + 4, "text-anchor": "end" } : { x: x + 8, y: y + 4 }, region.name) : null));
  }
  return h("div", { class: "inside" }, drawing);
}

/** @param {Pool[]} all */
function pools(all) {
  const rows = all.map((pool) => {
    const { health, counts } = pool;
    const what = !health.healthy ? "routes.unwell" : health.breaker !== "closed" ? "routes.open" : health.busy_until_ms ? "routes.busy" : "routes.well";
    return [
      h("div", {}, h("strong", {}, pool.name), h("div", { class: "soft" }, pool.url ?? t("routes.local"))), [pool.server, pool.form].filter(Boolean).join(", "), regionOf(pool) ?? t("routes.nowhere"),
      h("div", {}, h("span", { class: what === "routes.well" ? "pill good" : what === "routes.busy" ? "pill warn" : "pill bad" }, t(what)), health.complaint ? h("div", { class: "soft" }, health.complaint) : null),
      pool.running_max === null ? count(pool.running) : `${count(pool.running)} / ${count(pool.running_max)}`,
      health.first_byte_ms === null ? "" : `${decimal(health.first_byte_ms)} ms`, count(counts.sent), count(counts.failed), count(counts.retried),
    ];
  });
  return plainTable([t("routes.pool"), t("models.kind"), t("routes.region"), t("models.state"), `>${t("overview.live")}`, `>${t("routes.first")}`, `>${t("routes.sent")}`, `>${t("routes.failed")}`, `>${t("routes.retried")}`], rows);
}

/** @param {Fleet} fleet */
function routes(fleet) {
  if (fleet.routes.length === 0) return notice({ icon: "routes", title: t("routes.none"), text: t("routes.none.text") });
  const rows = fleet.routes.flatMap((route) => {
    const all = route.groups.reduce((sum, group) => sum + group.weight, 0) || 1;
    return route.groups.map((group, at) => [
      at === 0 ? route.model : "", group.name, `${decimal((100 * group.weight) / all)} %`,
      group.targets.map((target) => (target.model === route.model ? target.pool : `${target.pool}/${target.model}`)).join(", "), at === 0 ? route.fallback.join(", ") : "",
    ]);
  });
  return plainTable([t("playground.model"), t("routes.group"), `>${t("routes.share")}`, t("routes.targets"), t("routes.fallback")], rows);
}

/** @param {Fleet} fleet */
function decisions(fleet) {
  if (fleet.recent.length === 0) return notice({ icon: "logs", title: t("routes.recent.empty") });
  return plainTable([t("logs.time"), t("playground.model"), t("routes.chosen"), t("routes.why")], fleet.recent.map((decision) => [
    clockTime(decision.time_ms), decision.model, decision.choice ? `${decision.choice.pool}/${decision.choice.model}` : h("span", { class: "pill bad" }, t("logs.refused")), decision.choice?.by ?? decision.refusal?.reason ?? "",
  ]));
}

/**
 * @param {Fleet} fleet
 * @param {AbortSignal} signal
 */
function explainer(fleet, signal) {
  const answer = h("div", {});
  const model = h("input", { class: "input", required: true, value: fleet.routes[0]?.model ?? "", autocomplete: "off" });
  const others = /** @type {const} */ (["project", "key", "bucket"]).map((name) => ({ name, input: h("input", { class: "input", autocomplete: "off" }) }));
  const form = h("form", { class: "planner" }, field(t("playground.model"), model),
    field(t("usage.project"), others[0]?.input ?? model), field(t("usage.key"), others[1]?.input ?? model), field(t("routes.bucket"), others[2]?.input ?? model),
    h("button", { class: "button first", type: "submit" }, icon("search"), t("routes.explain")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const query = new URLSearchParams({ model: model.value });
    for (const { name, input } of others) if (input.value) query.set(name, input.value);
    ask(`/admin/v1/routes/explain?${query}`, { signal }).then((decision) => fill(answer, explained(decision)), (error) => { if (!signal.aborted) fill(answer, trouble(error)); });
  });
  return card(t("routes.decision"), [], form, answer);
}

/** @param {any} decision */
function explained(decision) {
  const verdict = decision.choice
    ? h("p", {}, h("span", { class: "pill good" }, `${decision.choice.pool}/${decision.choice.model}`), " ", decision.choice.by)
    : h("p", {}, h("span", { class: "pill bad" }, t("logs.refused")), " ", decision.refusal?.reason ?? "");
  const rows = decision.targets.map((/** @type {any} */ target) => [
    target.route, target.group, `${target.pool}/${target.model}`,
    h("span", { class: target.open ? "pill good" : "pill" }, t(target.open ? "routes.able" : "routes.unable")), target.open ? "" : target.against.words.join("; "),
  ]);
  return h("div", {}, h("div", { class: "inside" }, verdict), plainTable([t("routes.route"), t("routes.group"), t("routes.target"), t("models.state"), t("routes.why")], rows));
}
