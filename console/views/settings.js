/** What this browser shows, who has signed in, and what this server is. */

import { platform, session as whoAmI, signOut } from "../client.js";
import { fill, h } from "../parts/dom.js";
import { confirmed, toast } from "../parts/feedback.js";
import { choice, field } from "../parts/form.js";
import { card, pageHead, smallButton } from "../parts/page.js";
import { loaded } from "../parts/state.js";
import { LANGUAGES, count, language, setLanguage, t } from "../text.js";
import { conversations, forget } from "./playground/history.js";

/** @param {import("../app.js").Visit} visit */
export async function show({ page, signal }) {
  const body = h("div", {});
  fill(page, pageHead(t("nav.settings"), t("config.lead")), body);
  const look = async (/** @type {AbortSignal} */ until) => {
    const [seen, who, kept] = await Promise.all([platform(until), whoAmI().catch(() => null), conversations().catch(() => [])]);
    return { seen, who, kept };
  };
  await loaded(body, look, ({ seen, who, kept }) => h("div", { class: "stack" }, looks(), session(who), server(seen), browser(kept)), signal);
}

function looks() {
  const themes = [{ value: "", label: t("config.theme.system") }, { value: "light", label: t("config.theme.light") }, { value: "dark", label: t("config.theme.dark") }];
  const theme = choice(themes, localStorage.getItem("sampan.theme") ?? "", (value) => {
    if (value) [document.documentElement.dataset.theme, localStorage["sampan.theme"]] = [value, value];
    else {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("sampan.theme");
    }
  });
  const languages = Object.entries(LANGUAGES).map(([value, label]) => ({ value, label }));
  const tongue = choice(languages, language, (value) => setLanguage(/** @type {import("../text.js").Language} */ (value)));
  return card(t("config.looks"), [], h("div", { class: "planner" }, field(t("config.theme"), theme), field(t("language"), tongue)));
}

async function leave() {
  await signOut().catch(() => {});
  location.reload();
}

/** @param {import("../client.js").Session | null} who */
function session(who) {
  if (!who?.keys) return card(t("config.session"), [], h("p", { class: "inside soft" }, t("config.open")));
  const place = t(who.runs_place ? "config.runs" : "config.guest");
  return card(t("config.session"), [h("span", { class: "push" }, smallButton(t("signin.out"), leave))],
    facts([[t("people.key"), who.key], [t("people.role"), who.role], [t("people.project"), who.project], [t("people.organisation"), `${who.organisation} · ${place}`]]));
}

/** @param {import("../client.js").Platform} seen */
function server(seen) {
  const has = Object.entries(seen.parts ?? {}).filter(([, isThere]) => isThere).map(([name]) => name).join(", ");
  return card(t("config.server"), [], facts([[t("config.version"), seen.version], [t("config.address"), location.origin], [t("nav.models"), count(seen.models.length)], [t("config.parts"), has || "–"]]),
    h("p", { class: "inside soft" }, t("config.file"), " ", h("code", {}, "sampan config show --origin")));
}

/** @param {import("./playground/history.js").Conversation[]} kept */
function browser(kept) {
  const said = h("p", { class: "soft" }, t("config.kept", { count: count(kept.length) }));
  const drop = smallButton(t("config.forget"), async () => {
    if (!(await confirmed(t("config.forget"), t("playground.delete.text"), t("delete")))) return;
    await Promise.all(kept.map((one) => forget(one.id)));
    said.textContent = t("config.kept", { count: "0" });
    toast(t("config.forgotten"));
  }, { disabled: kept.length === 0 });
  return card(t("config.browser"), [h("span", { class: "push" }, drop)], h("div", { class: "inside" }, said));
}

/** @param {[string, string | undefined][]} rows */
function facts(rows) {
  return h("dl", { class: "inside facts two" }, rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value ?? "–")]));
}
