/** The page of whoever has not signed in. */

import { elsewhere, signIn } from "../client.js";
import { fill, h } from "../parts/dom.js";
import { field } from "../parts/form.js";
import { explain } from "../parts/state.js";
import { t } from "../text.js";

/**
 * @param {HTMLElement} place
 * @param {Node} brand
 */
export function show(place, brand) {
  const key = h("input", { class: "input", type: "password", required: true, autocomplete: "current-password", spellcheck: "false", placeholder: "sk-sampan-…" });
  const button = h("button", { class: "button first", type: "submit" }, t("signin.enter"));
  const problem = h("p", { class: "bad", role: "alert" });
  const others = h("div", { class: "stack" });
  const form = h("form", { class: "stack" }, field(t("signin.key"), key, t("signin.hint")), problem, button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    problem.textContent = "";
    try {
      await signIn(key.value.trim());
      location.reload();
    } catch (error) {
      problem.textContent = explain(error);
      button.disabled = false;
      key.select();
    }
  });
  fill(place, h("main", { class: "main signin", id: "main" }, brand, h("h1", {}, t("signin.title")), h("p", { class: "soft" }, t("signin.lead")), form, others));
  key.focus();
  // Whoever has a key need not wait for this, and misses nothing if it cannot be asked.
  elsewhere().then((address) => {
    if (address) fill(others, h("p", { class: "soft" }, t("signin.or")), h("a", { class: "button", href: address }, t("signin.elsewhere")));
  }, () => undefined);
}
