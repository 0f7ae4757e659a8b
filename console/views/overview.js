/** What runs, and how it is. */

import { ask, platform, recentRequests, usage } from "../client.js";
import { fill, h } from "../parts/dom.js";
import { copyButton } from "../parts/feedback.js";
import { tabs } from "../parts/form.js";
import { icon } from "../parts/icon.js";
import { snippets } from "../parts/snippets.js";
import { spark } from "../parts/spark.js";
import { every, loaded, notice } from "../parts/state.js";
import { bytes, clockTime, compact, count, decimal, dollars, duration, t } from "../text.js";
import { memoryBar, statePill } from "../parts/model.js";

/** How often the figures are read, in milliseconds. */
const LOOK_MS = 2000;
/** Requests that are shown. */
const LATEST = 5;

/** @param {import("../app.js").Visit} visit */
export async function show({ page, signal }) {
  const body = h("div", {});
  fill(page,
    h("div", { class: "head" },
      h("div", {}, h("h1", {}, t("nav.overview")), h("p", {}, t("overview.lead"))),
      h("div", { class: "actions" }, h("a", { class: "button first", href: "#/playground" }, icon("playground"), t("overview.talk")))),
    body);
  await loaded(body, platform, (seen) => draw(seen, signal), signal);
}

/**
 * @param {import("../client.js").Platform} first
 * @param {AbortSignal} signal
 */
function draw(first, signal) {
  const figures = h("dl", { class: "grid figures" });
  const models = h("div", {});
  const line = spark(t("overview.speed"));
  const latest = h("div", {});
  /** @type {{ price: number, requests: number } | null} */
  let spent = null;
  /** @param {import("../client.js").Platform} seen */
  const update = (seen) => {
    const sum = (/** @type {(model: import("../client.js").Model) => number | undefined} */ of) => seen.models.reduce((all, model) => all + (of(model) ?? 0), 0);
    const up = seen.models.filter((model) => model.state === "loaded");
    const tiles = [figure(t("overview.loaded"), count(up.length), t("overview.of", { count: count(seen.models.length) }))];
    if (seen.managed) {
      line.push(sum(pace));
      tiles.push(
        figure(t("overview.live"), count(sum((model) => model.running)), t("overview.waiting", { count: count(sum((model) => model.waiting)) })),
        figure(t("overview.speed"), decimal(sum(pace)), t("overview.answered", { count: compact(sum((model) => model.output_tokens)) }), line.element),
        figure(t("overview.memory"), bytes(sum((model) => model.weights_bytes)), t("overview.kv", { size: bytes(sum((model) => model.kv_used_bytes)) })));
    } else {
      tiles.push(
        figure(t("overview.weights"), bytes(sum((model) => model.size_bytes)), t("overview.weights.text")),
        figure(t("overview.context"), compact(Math.max(0, ...seen.models.map((model) => model.context_tokens))), t("overview.context.text")));
    }
    if (spent) tiles.push(figure(t("overview.spend"), dollars(spent.price), t("overview.requests", { count: compact(spent.requests) })));
    fill(figures, tiles);
    fill(models, seen.models.length === 0 ? notice({ icon: "models", title: t("models.empty"), text: t("models.empty.text") }) : list(seen.models));
  };
  update(first);
  // What the books and the last requests say is not waited for: the first picture needs neither.
  const look = async (/** @type {import("../client.js").Platform} */ seen) => {
    const [today, last] = await Promise.all([seen.parts?.books ? spend(signal) : null, recentRequests(signal).catch(() => null)]);
    spent = today;
    update(seen);
    fill(latest, !last ? notice({ icon: "keys", title: t("state.denied") }) : last.length === 0 ? notice({ icon: "logs", title: t("logs.empty"), text: t("logs.empty.text") }) : newest(last.slice(0, LATEST)));
  };
  look(first).catch(() => {});
  const earth = h("div", {});
  if (first.parts?.routes) regions(earth, signal).catch(() => {});
  every(LOOK_MS, signal, async () => look(await platform(signal)));
  return h("div", { class: "stack" }, figures,
    h("div", { class: "split" },
      h("div", { class: "stack" },
        h("section", { class: "card" }, h("header", {}, h("h2", {}, t("nav.models")), h("a", { href: "#/models" }, t("overview.all"))), models),
        h("section", { class: "card" }, h("header", {}, h("h2", {}, t("overview.latest")), h("a", { href: "#/logs" }, t("overview.all"))), latest)),
      h("div", { class: "stack" }, connect(first.models[0]?.id ?? ""), earth)));
}

/** Where the pools compute, for whoever may see it. @param {HTMLElement} place @param {AbortSignal} signal */
async function regions(place, signal) {
  const [{ map }, fleet] = await Promise.all([import("./routes.js"), ask("/admin/v1/routes", { signal })]);
  fill(place, h("section", { class: "card", "aria-label": t("routes.map") }, h("header", {}, h("h2", {}, t("routes.map")), h("a", { href: "#/routes" }, t("overview.all"))), map(fleet)));
}

/** An idle engine keeps saying how fast it was. @param {import("../client.js").Model} model */
function pace(model) {
  return model.running ? model.tokens_per_second : 0;
}

/** What today cost; nothing where nobody may say. @param {AbortSignal} signal */
async function spend(signal) {
  const totals = await usage({ by: "all", from: new Date().toISOString().slice(0, 10) }, signal).catch(() => null);
  if (!totals) return null;
  return { price: totals.reduce((all, total) => all + total.price_micro, 0), requests: totals.reduce((all, total) => all + total.requests, 0) };
}

/** @param {import("../client.js").Seen[]} requests */
function newest(requests) {
  return h("ul", { class: "model-list" }, requests.map((request) => h("li", { class: "model" },
    h("a", { class: "cut", href: `#/logs/${request.id}` }, request.model),
    h("span", { class: "soft cut" }, `${clockTime(request.arrived_at_ms)} · ${request.route}`),
    h("span", { class: "soft number" }, request.over_us === null ? t("logs.generating") : duration(request.over_us / 1000)))));
}

/**
 * @param {string} name
 * @param {string} value
 * @param {string} remark
 * @param {Element} [drawing]
 */
function figure(name, value, remark, drawing) {
  return h("div", { class: "card figure" }, h("dt", {}, name), h("dd", {}, value), h("dd", { class: "remark" }, remark), drawing ? h("dd", { class: "drawing" }, drawing) : null);
}

/** @param {import("../client.js").Model[]} models */
function list(models) {
  const rows = models.map((model) => h("li", { class: "model" },
    h("div", { class: "cut" }, h("a", { href: `#/models/${encodeURIComponent(model.id)}` }, model.id),
      h("div", { class: "soft cut" }, [model.architecture, model.weight_format, model.parameters ? compact(model.parameters) : ""].filter(Boolean).join(" · "))),
    memoryBar(model), statePill(model)));
  return h("ul", { class: "model-list" }, rows);
}

/** @param {string} model */
function connect(model) {
  const programs = snippets({ model, messages: [{ role: "user", content: "Who are you?" }] });
  const code = h("code", {});
  const bar = tabs(t("overview.connect"), Object.entries(programs).map(([name, text]) => ({ name, show: () => { code.textContent = text; } })));
  return h("section", { class: "card" }, h("header", {}, h("h2", {}, t("overview.connect")), bar),
    h("div", { class: "inside stack" }, h("p", { class: "soft" }, t("overview.connect.text")),
      h("div", { class: "snippet" }, h("pre", { tabindex: 0 }, code), copyButton(() => code.textContent ?? ""))));
}
