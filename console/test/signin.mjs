// A server that asks for keys: nothing is shown before somebody has signed in, and nothing after.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { start } from "./server.mjs";

const require = createRequire(join(process.env.NODE_CACHE, "/"));
const { chromium } = require("playwright-core");
const server = await start(process.env.SAMPAN_BIN, true);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] });
try {
  const context = await browser.newContext({ locale: "en-US" });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  await page.goto(`${server.direct}/#/models`);
  const field = page.locator("input[type=password]");
  await field.fill("sk-sampan-0");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForFunction(() => /not known/.test(document.querySelector("[role=alert]")?.textContent ?? ""));
  await field.fill(readFileSync(join(server.data, "admin.key"), "utf8"));
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForSelector("#side");
  await page.getByText("sampan-nano", { exact: true }).first().waitFor();
  const [cookie] = await context.cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"]);
  // A change needs what only our own pages know; buckets take the session in place of a signature.
  const statuses = await page.evaluate(async () => {
    const post = async (/** @type {string} */ path, /** @type {Record<string, string>} */ headers = {}) =>
      (await fetch(path, { method: "POST", body: "{}", headers: { "content-type": "application/json", ...headers } })).status;
    const { page: token } = await (await fetch("/console/session")).json();
    return [await post("/ListVectorBuckets"), await post("/ListVectorBuckets", { "x-sampan-page": token })];
  });
  assert.deepEqual(statuses, [403, 200]);
  await page.click("#leave");
  await page.waitForSelector("input[type=password]");
  assert.equal((await context.cookies()).length, 0);
  console.log("ok    a person signs in and out");
} catch (error) {
  console.log(`FAIL  a person signs in and out\n${error.stack}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  await server.stop();
}
