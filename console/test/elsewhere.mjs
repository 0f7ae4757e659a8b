// Signing in at somebody else's: a certified OpenID Connect provider as it comes, which tells addresses only beside its token.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import http from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { start } from "./server.mjs";

const require = createRequire(join(process.env.NODE_CACHE, "/"));
const { chromium } = require("playwright-core");
// It is a module, which `require` cannot load.
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")).href);

// The provider says on every start that it is set up for a test, which it is.
console.info = console.warn = () => undefined;
const CLIENT = "sampan";
const SECRET = "a secret of this test";

/** A provider where everybody signs in by a name alone: `ada` is ada@example.com. */
async function provider(/** @type {string} */ back) {
  const server = http.createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const findAccount = (/** @type {unknown} */ _, /** @type {string} */ id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: id !== "eve" }),
  });
  const claims = { openid: ["sub"], email: ["email", "email_verified"] };
  const clients = [{ client_id: CLIENT, client_secret: SECRET, redirect_uris: [back] }];
  const cookies = { keys: ["of this test"] };
  server.on("request", new Provider(issuer, { claims, clients, cookies, findAccount }).callback());
  const stop = () => { server.closeAllConnections(); server.close(); };
  return { issuer, stop };
}

/** An address that is known before the program has one. */
async function front() {
  const target = { address: "" };
  const server = http.createServer((request, response) => {
    const inner = http.request(target.address + request.url, { method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    inner.on("error", () => response.destroy());
    request.pipe(inner);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const stop = () => { server.closeAllConnections(); server.close(); };
  return { address: `http://127.0.0.1:${server.address().port}`, target, stop };
}

const door = await front();
const there = await provider(`${door.address}/console/sign-in/back`);
process.env.SAMPAN_TEST_CLIENT = SECRET;
const options = ["--public-url", door.address, "--oidc-issuer", there.issuer, "--oidc-client", CLIENT, "--oidc-secret", "env:SAMPAN_TEST_CLIENT"];
const server = await start(process.env.SAMPAN_BIN, true, options);
door.target.address = server.direct;
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] });

/** Goes to the provider, says who one is, and comes back. */
async function signIn(/** @type {string} */ name) {
  const context = await browser.newContext({ locale: "en-US" });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  await page.goto(`${door.address}/#/models`);
  await page.getByRole("link", { name: /Sign in/ }).click();
  await page.fill("input[name=login]", name);
  await page.fill("input[name=password]", "anything");
  await page.getByRole("button", { name: "Sign-in" }).click();
  await page.getByRole("button", { name: "Continue" }).click();
  return page;
}

try {
  const made = ["admin", "member", "new", "Ada", "--email", "ada@example.com", "--role", "viewer"];
  execFileSync(process.env.SAMPAN_BIN, made, { env: { ...process.env, SAMPAN_DATA: server.data } });
  const page = await signIn("ada");
  await page.waitForSelector("#side");
  const { role } = await page.evaluate(async () => (await fetch("/console/session")).json());
  assert.equal(role, "viewer");
  const names = (await page.context().cookies(door.address)).map(({ name, httpOnly, sameSite }) => [name, httpOnly, sameSite]);
  assert.deepEqual(names.filter(([name]) => name.startsWith("sampan")), [["sampan_session", true, "Strict"]]);
  await page.click("#leave");
  await page.waitForSelector("input[type=password]");
  for (const [name, said] of [["bob", /nobody here has the address bob@example.com/], ["eve", /"eve@example.com" is not verified/]]) {
    const refused = await signIn(name);
    await refused.waitForSelector("text=Nobody has signed in");
    assert.match(await refused.textContent("body"), said);
  }
  console.log("ok    members sign in at a provider, nobody else does");
} catch (error) {
  console.log(`FAIL  members sign in at a provider, nobody else does\n${error.stack}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  await server.stop();
  there.stop();
  door.stop();
}
