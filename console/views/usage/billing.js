/** Balances, budgets, prices and invoices. */

import { ask } from "../../client.js";
import { fill, h } from "../../parts/dom.js";
import { openDialog, toast } from "../../parts/feedback.js";
import { choice, field } from "../../parts/form.js";
import { icon } from "../../parts/icon.js";
import { card, meter, plainTable, smallButton } from "../../parts/page.js";
import { explain, loaded, notice } from "../../parts/state.js";
import { count, dollars, t, wholeDay } from "../../text.js";

/** Months that an invoice can be taken for. */
const MONTHS = 12;

/**
 * @param {HTMLElement} body
 * @param {AbortSignal} signal
 */
export function billing(body, signal) {
  const load = async (/** @type {AbortSignal} */ until) => {
    const options = { signal: until };
    const [accounts, budgets, prices, months] = await Promise.all([
      ask("/admin/v1/ledger/accounts", options), ask("/admin/v1/budgets", options), ask("/admin/v1/prices", options), ask("/admin/v1/usage?by=all", options)]);
    return { accounts: accounts.data, budgets: budgets.data, prices, used: months.data };
  };
  const again = () => loaded(body, load, (seen) => h("div", { class: "stack" },
    balances(seen.accounts), budgetCard(seen.budgets, again), invoices(projects(seen)), priceCard(seen.prices)), signal);
  again();
}

/** @param {{ accounts: any[], used: any[] }} seen */
function projects(seen) {
  return [...new Set([...seen.used.map((total) => total.project), ...seen.accounts.map((account) => account.project)].filter(Boolean))].sort();
}

/** @param {any[]} accounts */
function balances(accounts) {
  const own = accounts.filter((account) => account.project && account.balance !== 0);
  if (own.length === 0) return card(t("usage.balances"), [], notice({ icon: "usage", title: t("usage.balances.empty"), text: t("usage.balances.text") }));
  const rows = own.map((account) => [
    account.project, h("span", { class: "mono" }, account.id), account.unit === "token" ? count(account.balance) : dollars(account.balance),
    account.expires_ms ? wholeDay(account.expires_ms) : "",
  ]);
  return card(t("usage.balances"), [], plainTable([t("usage.project"), t("usage.account"), `>${t("usage.balance")}`, t("usage.until")], rows));
}

/**
 * @param {any[]} budgets
 * @param {() => void} again
 */
function budgetCard(budgets, again) {
  const make = h("button", { class: "button small", type: "button", onclick: () => budgetForm(again) }, icon("plus"), t("usage.budget.new"));
  if (budgets.length === 0) return card(t("usage.budgets"), [make], notice({ icon: "usage", title: t("usage.budgets.empty"), text: t("usage.budgets.text") }));
  const rows = budgets.map((budget) => [
    h("span", { class: "mono" }, budget.scope), t(budget.period === "day" ? "usage.day" : "usage.month"),
    meter(budget.spent_micro, budget.limit_micro, `${dollars(budget.spent_micro)} / ${dollars(budget.limit_micro)}`),
    smallButton(t("usage.budget.remove"), () => setBudget({ scope: budget.scope, period: budget.period }, again)),
  ]);
  return card(t("usage.budgets"), [make], plainTable([t("usage.scope"), t("usage.period"), t("usage.spent"), ""], rows));
}

/** @param {() => void} again */
function budgetForm(again) {
  const scope = h("input", { class: "input", required: true, value: "project:local", autocomplete: "off" });
  const amount = h("input", { class: "input", required: true, inputmode: "decimal", placeholder: "25.00" });
  let period = "month";
  const form = h("form", { class: "stack tight" },
    field(t("usage.scope"), scope, t("usage.scope.hint")),
    field(t("usage.period"), choice([{ value: "month", label: t("usage.month") }, { value: "day", label: t("usage.day") }], period, (value) => { period = value; })),
    field(t("usage.limit"), amount), h("button", { class: "button first", type: "submit" }, t("usage.budget.set")));
  const dialog = openDialog({ title: t("usage.budget.new") }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await setBudget({ scope: scope.value, period, dollars: amount.value }, again)) dialog.close();
  });
}

/**
 * @param {Record<string, string>} body
 * @param {() => void} again
 */
async function setBudget(body, again) {
  try {
    await ask("/admin/v1/budgets/set", { method: "POST", body });
    again();
    return true;
  } catch (error) {
    toast(explain(error), "bad");
    return false;
  }
}

/** @param {string[]} names */
function invoices(names) {
  if (names.length === 0) return card(t("usage.invoices"), [], notice({ icon: "file", title: t("usage.invoices.empty"), text: t("usage.empty.text") }));
  const now = new Date();
  const months = Array.from({ length: MONTHS }, (_, at) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - at, 1)).toISOString().slice(0, 7));
  let project = names[0] ?? "";
  let month = months[0] ?? "";
  const link = h("a", { class: "button first", target: "_blank", rel: "noopener" }, icon("file"), t("usage.invoice.open"));
  const pdf = h("a", { class: "button", target: "_blank", rel: "noopener" }, icon("download"), t("usage.invoice.pdf"));
  const point = () => {
    const page = `/admin/v1/invoices/${encodeURIComponent(project)}/${month}`;
    link.setAttribute("href", page);
    pdf.setAttribute("href", `${page}?format=pdf`);
  };
  point();
  const form = h("div", { class: "planner" },
    field(t("usage.project"), choice(names.map((value) => ({ value, label: value })), project, (value) => { project = value; point(); })),
    field(t("usage.month"), choice(months.map((value) => ({ value, label: value })), month, (value) => { month = value; point(); })), link, pdf);
  return card(t("usage.invoices"), [], form);
}

/** @param {{ version: string, data: { model: string, region: string, from: string, prices: string | unknown }[] }} prices */
function priceCard(prices) {
  const rows = prices.data.map((price) => [price.model, price.region, price.from, typeof price.prices === "string" ? price.prices : JSON.stringify(price.prices)]);
  const place = h("div", {});
  fill(place, rows.length === 0 ? notice({ icon: "usage", title: t("usage.prices.empty"), text: t("usage.prices.text") })
    : plainTable([t("usage.model"), t("usage.region"), t("usage.from"), t("usage.prices")], rows));
  return card(t("usage.prices"), [h("span", { class: "pill" }, prices.version)], place);
}
