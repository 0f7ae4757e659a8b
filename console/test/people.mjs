// Who signs in, and who may do what: against a directory that the test plays.

import assert from "node:assert/strict";

const PAGE = "token-of-the-page";

/** A directory of one organisation, behind the routes that the console asks. */
async function played(page, role = "owner") {
  const state = { isIn: false, keys: [], members: [], projects: [{ id: "prj_1", name: "main", created_ms: 1e12, closed_ms: null }], refused: [] };
  const who = { keys: true, key: "key_1", project: "prj_1", organisation: "org_1", role, runs_place: true, page: PAGE };
  const lists = { keys: state.keys, members: state.members, projects: state.projects, organisations: [{ id: "org_1", name: "Boats", runs_place: true, created_ms: 1e12, closed_ms: null }] };
  await page.route("**/console/session", (route) => {
    const request = route.request();
    if (request.method() === "DELETE") state.isIn = false;
    if (request.method() === "POST") state.isIn = request.postDataJSON().key === "good";
    if (request.method() === "DELETE") return route.fulfill({ status: 204 });
    return state.isIn ? route.fulfill({ json: who }) : route.fulfill({ status: 401, json: { error: { message: "this key is not known" } } });
  });
  await page.route("**/admin/v1/**", async (route) => {
    const request = route.request();
    if (!state.isIn) return route.fulfill({ status: 401, json: { error: { message: "no key" } } });
    if (request.method() !== "GET" && request.headers()["x-sampan-page"] !== PAGE) state.refused.push(request.url());
    const [, what, id] = new URL(request.url()).pathname.match(/^\/admin\/v1\/(keys|members|projects|organisations)(?:\/(.+))?$/) ?? [];
    if (!what) {
      const answer = await route.fetch();
      if (!request.url().endsWith("/models")) return route.fulfill({ response: answer });
      const seen = await answer.json();
      return route.fulfill({ json: { ...seen, parts: { ...seen.parts, accounts: true } } });
    }
    const rows = lists[what];
    if (request.method() === "GET") return route.fulfill({ json: { data: rows, has_more: false, last_id: null } });
    if (request.method() === "DELETE") {
      const row = rows.find((one) => one.id === id);
      if (what === "keys") row.revoked_ms = Date.now();
      else rows.splice(rows.indexOf(row), 1);
      return route.fulfill({ status: 204 });
    }
    const body = request.postDataJSON();
    if (request.method() === "PATCH") Object.assign(rows.find((one) => one.id === id), body);
    else if (body.name === "wrong") return route.fulfill({ status: 400, json: { error: { message: "name is \"wrong\"" } } });
    else rows.push({ ...body, id: `${what}_${rows.length}`, project_name: "main", hint: "sk-…ab12", created_ms: Date.now(), revoked_ms: null, expires_ms: body.expires_ms ?? null, used_ms: null });
    return route.fulfill({ status: 201, json: { id: "x", key: "sampan-secret-of-the-test" } });
  });
  return state;
}

/** @param {import("./pages.mjs").Tools} tools */
export const peopleTests = ({ open, ready, done, accessible }) => ({
  async "who has no session finds the door, and comes in with a key"() {
    const page = await open("planner", { bypassCSP: true });
    // A page that learns that it has no session loads itself again; it must not do so beside us.
    const address = page.url().replace("planner", "overview");
    await page.goto("about:blank");
    await played(page);
    await page.goto(address);
    await page.waitForSelector("h1 >> text=Sign in");
    assert.equal(await page.locator("nav.side").count(), 0);
    await accessible(page, "door");
    await page.getByLabel("Key", { exact: true }).fill("bad");
    await page.keyboard.press("Enter");
    await page.waitForSelector("[role=alert] >> text=this key is not known");
    await page.getByLabel("Key", { exact: true }).fill("good");
    await page.keyboard.press("Enter");
    await page.waitForSelector("text=sampan-nano");
    await page.waitForSelector("nav a[data-page=people]:not([hidden])");
    await page.evaluate(() => { location.hash = "#/settings"; });
    await page.waitForSelector("dd >> text=runs this server");
    await accessible(page, "settings-signed-in");
    await page.click("[aria-label=Session] button");
    await page.waitForSelector("h1 >> text=Sign in");
    await done(page);
  },
  async "keys are made, shown once and revoked; members get roles; projects are made and closed"() {
    const page = await open("planner", { bypassCSP: true });
    const state = await played(page);
    state.isIn = true;
    await page.goto(page.url().replace("planner", "people"));
    await page.reload();
    await page.waitForSelector("text=No key yet");
    await page.click("text=New key");
    await page.getByLabel("Name", { exact: true }).fill("wrong");
    await page.click("dialog >> text=Make key");
    await page.waitForSelector(".toast.bad >> text=name is");
    await page.getByLabel("Name", { exact: true }).fill("arm");
    await page.getByLabel("Models", { exact: true }).fill("qwen3*, tiny");
    await page.getByLabel("Days until it expires").fill("30");
    await page.click("dialog >> text=Make key");
    await page.waitForSelector("dialog code >> text=sampan-secret-of-the-test");
    await page.keyboard.press("Escape");
    await page.waitForSelector(".rows >> text=qwen3*, tiny");
    await accessible(page, "people-keys");
    await page.click(".rows >> role=button[name='Revoke']");
    await page.click("dialog >> role=button[name='Revoke']");
    await page.waitForSelector(".rows .pill >> text=revoked");
    await page.click("role=tab[name='Members']");
    await page.waitForSelector("text=No member yet");
    await page.click("text=New member");
    await page.getByLabel("Name", { exact: true }).fill("Ada");
    await page.getByLabel("E-mail").fill("ada@example.org");
    await page.click("dialog >> role=button[name='Add']");
    await page.getByLabel("Role: Ada").selectOption("admin");
    await page.waitForFunction(() => document.querySelector("[aria-label='Role: Ada']")?.value === "admin");
    await accessible(page, "people-members");
    await page.click("role=tab[name='Projects']");
    await page.click("text=New project");
    await page.getByLabel("Name", { exact: true }).fill("robots");
    await page.click("dialog >> role=button[name='Add']");
    await page.waitForSelector(".rows >> text=robots");
    await page.locator(".rows tr", { hasText: "robots" }).getByRole("button").click();
    await page.click("dialog >> role=button[name='Close'] >> nth=-1");
    await page.waitForFunction(() => !document.querySelector(".rows")?.textContent.includes("robots"));
    assert.deepEqual(state.refused, [], "every change said which page it came from");
    await done(page);
  },
  async "who may not see the page is told, and who looks cannot change"() {
    const page = await open("planner", { bypassCSP: true });
    const state = await played(page, "viewer");
    state.isIn = true;
    await page.goto(page.url().replace("planner", "people"));
    await page.reload();
    await page.waitForSelector("text=No key yet");
    assert.equal(await page.locator("text=New key").count(), 0);
    await page.route("**/admin/v1/members?*", (route) => route.fulfill({ status: 403, json: { error: { message: "the role viewer may not do this" } } }));
    await page.click("role=tab[name='Members']");
    await page.waitForSelector(".state.bad >> text=the role viewer may not do this");
    await ready(page);
    await done(page);
  },
});
