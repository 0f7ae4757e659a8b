// Every page as a person meets it: the happy path, the empty state, an error; accessibility, hostile output, speed, size.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { modelTests } from "./models.mjs";
import { peopleTests } from "./people.mjs";
import { model, piece, start, texts } from "./server.mjs";
import { settingTests } from "./settings.mjs";
import { vectorTests } from "./vectors.mjs";

const require = createRequire(join(process.env.NODE_CACHE, "/"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const PAGES = ["overview", "playground", "models", "models/sampan-nano", "vectors", "vectors/papers", "vectors/papers/small", "batches", "logs", "usage", "catalyst", "routes", "planner", "settings"];
/** The whole console on the wire, in bytes. */
const SIZE_MAX = 350 << 10;
/** Elements that one task brings into the page; how long a task takes is printed, and differs from machine to machine. */
const NODES_MAX = 4000;

const server = await start(process.env.SAMPAN_BIN);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
const problems = [];

async function open(path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 850 }, locale: "en-US", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on("pageerror", (error) => problems.push(`${path}: ${error.message}`));
  page.on("console", (message) => {
    if (/Content Security Policy|Trusted/.test(message.text())) problems.push(`${path}: ${message.text()}`);
  });
  await page.goto(`${server.address}/#/${path}`);
  await page.waitForSelector("main h1");
  return page;
}

const ready = (page) => page.waitForFunction(() => document.querySelector("main h1") && !document.querySelector(".skeletons"));
const done = (page) => page.context().close();

/** Nothing serious for axe; and a picture to look at. */
async function accessible(page, name) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], name);
  await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
}

async function say(page, text) {
  await page.fill(".composer textarea", text);
  await page.keyboard.press("Enter");
}

/** An answer of the built-in model, past the browser. */
async function complete(content) {
  const body = JSON.stringify({ model: "sampan-nano", messages: [{ role: "user", content }], max_tokens: 8 });
  const answer = await fetch(`${server.direct}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body });
  assert.equal(answer.status, 200);
  await answer.text();
}

/** What every test works with. @typedef {{ open: typeof open, ready: typeof ready, done: typeof done, say: typeof say, server: typeof server, accessible: typeof accessible }} Tools */
const tools = { open, ready, done, say, server, accessible };

const tests = {
  async "overview shows the models and how to connect"() {
    const page = await open("overview");
    await page.waitForSelector("text=sampan-nano");
    await page.click("role=tab[name='Python']");
    assert.match(await page.textContent(".snippet code"), /from openai import OpenAI/);
    await done(page);
  },
  async "a server that is gone is named, on the page and above it"() {
    const page = await open("overview");
    await ready(page);
    await page.route("**/admin/**", (route) => route.abort());
    await page.evaluate(() => { location.hash = "#/models"; });
    await page.waitForSelector(".state.bad >> text=not reachable");
    await page.waitForSelector(".offline:not([hidden])");
    await page.unroute("**/admin/**");
    await page.click("text=Try again");
    await page.waitForSelector(".rows >> text=sampan-nano");
    await done(page);
  },
  async "no permission and no models have their own words"() {
    const page = await open("overview");
    await page.route("**/admin/v1/models", (route) => route.fulfill({ status: 403, json: { error: { message: "an admin key is needed" } } }));
    await page.evaluate(() => { location.hash = "#/models"; });
    await page.waitForSelector("text=an admin key is needed");
    await page.unroute("**/admin/v1/models");
    await page.route("**/admin/v1/models", (route) => route.fulfill({ json: { version: "1", managed: false, ready: true, models: [] } }));
    for (const name of ["overview", "playground"]) {
      await page.evaluate((to) => { location.hash = `#/${to}`; }, name);
      await page.waitForSelector(".state >> text=There is no model yet");
    }
    await done(page);
  },
  async "the built-in model answers, and the conversation is kept"() {
    const page = await open("playground");
    await say(page, "Who are you?");
    await page.waitForSelector(".said.model .figures");
    assert.notEqual(await page.textContent(".said.model .prose"), "");
    await page.waitForSelector(".past li");
    await page.reload();
    await page.click(".past li button");
    await page.waitForSelector(".said.user >> text=Who are you?");
    await page.click("[aria-label='Compare two models']");
    assert.equal(await page.locator(".lane").count(), 2);
    // One of the two has random weights, and would end when it happens to.
    await page.click("[aria-label='Settings']");
    await page.getByLabel("Longest answer").fill("32");
    await say(page, "And now?");
    await page.waitForFunction(() => document.querySelectorAll(".lane").length === 2 && [...document.querySelectorAll(".lane")].every((lane) => lane.querySelectorAll(".said.model .figures").length === 2));
    await page.click("[aria-label='Copy as code']");
    await page.click("dialog >> role=tab[name='Rust']");
    assert.match(await page.textContent("dialog code"), /reqwest/);
    await done(page);
  },
  async "a cut stream is shown as broken"() {
    const page = await open("playground");
    for (const play of [
      async function* () { yield piece({ content: "half an ans" }); },
      async function* () { yield piece({ content: "half" }); throw new Error("cut"); },
      async function* () { yield piece({ content: "half" }); yield 'data: {"error": {"message": "the worker died"}}\n\n'; },
    ]) {
      model.play = play;
      await page.click("[aria-label='New conversation']");
      await say(page, "Go");
      await page.waitForSelector(".ending.bad >> text=This answer is not whole.");
    }
    assert.match(await page.textContent(".ending.bad"), /the worker died/);
    await done(page);
  },
  async "thinking is folded, and a tool call asks for its result"() {
    const page = await open("playground");
    model.play = async function* () {
      yield piece({ reasoning_content: "let me see" });
      yield piece({ content: "Looking." });
      yield piece({ tool_calls: [{ index: 0, id: "c1", function: { name: "get_weather", arguments: "" } }] });
      yield piece({ tool_calls: [{ index: 0, function: { arguments: '{"city": "Mainz"}' } }] });
      yield piece({}, "tool_calls");
      yield "data: [DONE]\n\n";
    };
    await say(page, "Weather?");
    await page.waitForSelector(".call >> text=get_weather");
    assert.equal(await page.locator("details.thought[open]").count(), 0);
    model.play = texts(["It rains."]);
    await page.fill(".call textarea", '{"rain": true}');
    await page.click("text=Send result");
    await page.waitForSelector(".said.model >> text=It rains.");
    await done(page);
  },
  async "settings refuse JSON that is none, and reach the request"() {
    const page = await open("playground");
    await page.click("[aria-label='Settings']");
    const schema = page.getByLabel("Form of the answer (JSON schema)");
    await schema.fill("[1]");
    await page.waitForSelector(".fault >> text=A JSON object is expected.");
    await schema.fill('{"type": "object"}');
    await page.getByLabel("Temperature").fill("0.5");
    await page.click("[aria-label='Copy as code']");
    const text = await page.textContent("dialog code");
    assert.ok(text.includes('"temperature": 0.5') && text.includes("json_schema"), text);
    await done(page);
  },
  async "nothing that a hostile model writes runs or freezes"() {
    const page = await open("playground");
    await page.evaluate(() => { window.hit = 0; window.alert = () => { window.hit += 1; }; });
    model.play = texts([
      "<script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n\n[a](javascript:alert(1)) <svg onload=alert(1)>\n\n",
      "safe\u202etxt.exe\n\n```html\n<script>alert(1)</script>\n```\n\n", "x".repeat(200_000), "\n\n", "> ".repeat(20_000), "\n\n",
    ]);
    await say(page, "Attack");
    await page.waitForSelector(".said.model .figures");
    await page.evaluate(() => { document.querySelector(".thread").scrollTop = 0; });
    await page.waitForFunction(() => document.querySelector(".prose pre code"));
    await page.evaluate(() => { document.querySelectorAll(".prose a").forEach((link) => link.click()); });
    const found = await page.evaluate(() => ({
      hit: window.hit, tags: document.querySelectorAll(".prose script, .prose img, .prose [onerror], .prose a[href^='javascript']").length,
      turned: document.querySelector(".prose").textContent.includes("\u202e"),
    }));
    assert.deepEqual(found, { hit: 0, tags: 0, turned: false });
    await done(page);
  },
  async "a megabyte and ten thousand tokens arrive without long frames"() {
    for (const [name, list] of [
      ["10,000 tokens", Array.from({ length: 10_000 }, (_, at) => (at % 60 === 59 ? "\n\n" : at % 60 === 0 ? "- **word** " : "word "))],
      ["1 MB of Markdown", Array.from({ length: 256 }, (_, at) => `## Part ${at}\n\n${"Some *text* with `code`. ".repeat(160)}\n\n`)],
    ]) {
      const page = await open("playground");
      await page.evaluate(() => {
        window.tasks = [];
        new PerformanceObserver((seen) => window.tasks.push(...seen.getEntries().map((entry) => entry.duration))).observe({ entryTypes: ["longtask"] });
        const size = (node) => 1 + (node.querySelectorAll ? node.querySelectorAll("*").length : 0);
        window.steps = [];
        new MutationObserver((seen) => window.steps.push(seen.flatMap((change) => [...change.addedNodes]).map(size).reduce((sum, size) => sum + size, 0)))
          .observe(document.body, { childList: true, subtree: true });
      });
      model.play = texts(list);
      const began = Date.now();
      await say(page, "Write");
      await page.waitForSelector(".said.model .figures", { timeout: 60_000 });
      await page.waitForTimeout(600);
      const { tasks, steps } = await page.evaluate(() => ({ tasks: window.tasks, steps: window.steps }));
      const [longest, most, all] = [Math.round(Math.max(0, ...tasks)), Math.max(...steps), steps.reduce((sum, step) => sum + step, 0)];
      console.log(`  ${name}: ${Date.now() - began} ms, ${tasks.length} tasks over 50 ms, the longest ${longest} ms; ${all} nodes, at most ${most} at once`);
      assert.ok(most < NODES_MAX, `${name}: ${most} nodes at once`);
      const shown = await page.evaluate(() => document.querySelector(".prose").textContent.length);
      assert.ok(shown > 40_000, `only ${shown} characters are there`);
      await done(page);
    }
  },
  async "a model's files are shown, 50,000 tensors too"() {
    const page = await open("models");
    await page.click(".rows >> text=sampan-nano");
    await page.waitForSelector("text=embed_tokens.weight");
    await page.fill("[type=search]", "k_proj");
    await page.waitForFunction(() => !document.querySelector(".window").textContent.includes("embed_tokens"));
    const tensors = Array.from({ length: 50_000 }, (_, at) => ({ name: `layers.${at}.weight`, type: "Bf16", shape: [at] }));
    await page.route("**/admin/v1/shelf/big", (route) => route.fulfill({ json: { name: "big", tensors } }));
    await page.evaluate(() => { location.hash = "#/models/big"; });
    await page.waitForSelector("text=layers.0.weight");
    assert.ok(await page.locator(".window .line").count() < 100);
    await page.evaluate(() => { document.querySelector(".window").scrollTop = 1e9; });
    await page.waitForSelector("text=layers.49999.weight");
    await page.evaluate(() => { location.hash = "#/models/nothing"; });
    await page.waitForSelector(".state.bad >> text=nothing");
    await done(page);
  },
  ...modelTests(tools),
  ...vectorTests(tools),
  ...settingTests(tools),
  ...peopleTests(tools),
  async "every request is in the log, with its timeline, and in the overview"() {
    const page = await open("logs");
    await page.route("**/admin/v1/requests", (route) => route.fulfill({ json: { requests: [] } }));
    await page.route("**/admin/v1/requests/tail", (route) => route.fulfill({ contentType: "text/event-stream", body: "" }));
    await page.reload();
    await page.waitForSelector("text=No request yet");
    await page.unroute("**/admin/v1/requests/tail");
    await page.unroute("**/admin/v1/requests");
    await complete("hello");
    await page.reload();
    await page.click(".window .lines >> text=sampan-nano >> nth=0");
    await page.waitForSelector(".timeline >> text=Decode");
    assert.equal(await page.locator(".timeline li").count(), 3);
    await page.waitForSelector(".steps >> text=pieces");
    assert.ok(await page.locator(".steps rect").count() >= 4, "the built-in model wrote eight tokens");
    const before = await page.locator(".window .lines .line").count();
    await complete("again");
    await page.waitForFunction((least) => document.querySelectorAll(".window .lines .line").length > least, before);
    await page.fill("[type=search]", "nothing is called so");
    await page.waitForSelector("text=No request fits the filter");
    await page.fill("[type=search]", "sampan-nano");
    await page.waitForSelector(".window .lines .line");
    await page.route("**/admin/v1/requests", (route) => route.fulfill({ status: 403, json: { error: { message: "an admin key is needed" } } }));
    await page.reload();
    await page.waitForSelector(".state.bad >> text=an admin key is needed");
    await page.unroute("**/admin/v1/requests");
    await page.evaluate(() => { location.hash = "#/overview"; });
    await page.waitForSelector("text=Spend today");
    await page.waitForSelector("section.card svg.map .place");
    await page.waitForSelector(".model-list a[href^='#/logs/']");
    await done(page);
  },
  async "usage by model and day, drilled into, exported; budgets and invoices"() {
    const page = await open("usage");
    await page.route("**/admin/v1/usage?*", (route) => route.fulfill({ json: { data: [] } }));
    await page.reload();
    await page.waitForSelector("text=Nothing was used in this time");
    await page.unroute("**/admin/v1/usage?*");
    await complete("hello");
    await page.reload();
    await page.waitForSelector("svg.chart .open");
    assert.equal(await page.locator("svg.chart .open").count(), 30);
    const text = await page.evaluate(async () => (await fetch(document.querySelector("a[download='usage.csv']").href)).text());
    assert.match(text, /sampan-nano/);
    await page.click(".rows button >> text=sampan-nano");
    await page.waitForSelector(".chip >> text=Model: sampan-nano");
    await page.locator("svg.chart .open").last().click();
    await page.waitForFunction(() => document.querySelectorAll("svg.chart g").length === 24);
    await page.click("text=List the last 1,000");
    await page.waitForSelector(".window .lines >> text=sampan-nano");
    await page.click("role=tab[name='Billing']");
    await page.waitForSelector("text=No budget yet");
    await page.click("text=New budget");
    await page.getByLabel("Scope").fill("nobody");
    await page.getByLabel("Limit in dollars").fill("25");
    await page.click("dialog >> text=Set budget");
    await page.waitForSelector(".toast.bad");
    await page.getByLabel("Scope").fill("project:local");
    await page.click("dialog >> text=Set budget");
    await page.waitForSelector(".rows >> text=project:local");
    const invoice = await page.evaluate(async () => (await fetch(document.querySelector("a[target='_blank']").href)).text());
    assert.match(invoice, /<html/);
    await done(page);
  },
  async "a batch is uploaded, answered, downloaded, and a bad one says why"() {
    const page = await open("batches");
    await page.waitForSelector("text=No batch yet");
    await page.waitForSelector("text=No file yet");
    const send = async (text) => {
      await page.setInputFiles("[type=file]", { name: "work.jsonl", mimeType: "application/x-ndjson", buffer: Buffer.from(text) });
      await page.click("form button[type=submit]");
    };
    const body = { model: "sampan-nano", messages: [{ role: "user", content: "Hi" }], max_tokens: 8 };
    await send(JSON.stringify({ custom_id: "a", method: "POST", url: "/v1/chat/completions", body }));
    await page.waitForSelector(".toast.good >> text=The batch has begun.");
    await page.waitForSelector(".pill.good >> text=completed");
    await page.waitForSelector("text=1 of 1");
    const results = await page.evaluate(async () => (await fetch([...document.querySelectorAll("a[download]")].find((link) => link.textContent === "Results").href)).text());
    assert.match(results, /"custom_id":"a"/);
    await send("no json");
    await page.waitForSelector(".pill.bad >> text=failed");
    await page.locator(".card[aria-label='Files'] >> text=Delete").first().click();
    await page.click("dialog >> role=button[name='Delete']");
    await page.route("**/v1/files", (route) => route.fulfill({ status: 413, json: { error: { message: "the file is too large" } } }));
    await send("x");
    await page.waitForSelector(".toast.bad >> text=the file is too large");
    await done(page);
  },
  async "a young company applies, is granted, and the grant is followed"() {
    const page = await open("catalyst");
    await page.waitForSelector("text=No application yet");
    const apply = async (founded) => {
      await page.click(".card button >> text=Apply");
      await page.fill("dialog input >> nth=0", "robots");
      await page.fill("dialog input >> nth=1", "Robots Ltd");
      await page.fill("dialog input >> nth=2", founded);
      await page.fill("dialog input >> nth=3", "DE");
      await page.click("dialog >> role=button[name='Apply']");
    };
    await apply("1990-01-01");
    await page.waitForSelector(".toast.bad");
    await page.keyboard.press("Escape");
    await apply(new Date(Date.now() - 300 * 86_400_000).toISOString().slice(0, 10));
    await page.click(".rows >> role=button[name='Grant']");
    await page.click("dialog >> role=button[name='Grant']");
    await page.click(".rows a.mono");
    await page.waitForSelector("text=Tokens used by day");
    const released = () => [...document.querySelectorAll(".rows .pill")].filter((pill) => pill.textContent === "released").length;
    assert.equal(await page.evaluate(released), 1);
    await page.click(".rows >> role=button[name='Release'] >> nth=0");
    await page.fill("dialog input", "it is online");
    await page.click("dialog >> role=button[name='Release']");
    await page.waitForFunction(() => [...document.querySelectorAll(".rows .pill")].filter((pill) => pill.textContent === "released").length === 2);
    await page.evaluate(() => { location.hash = "#/catalyst/nothing"; });
    await page.waitForSelector(".state.bad >> text=nothing");
    await done(page);
  },
  async "routes: the map, the pools, a decision explained; not there without pools"() {
    const page = await open("routes");
    await page.waitForSelector("svg.map .place");
    await page.waitForSelector(".rows >> text=far");
    await page.waitForSelector("[aria-label=Routes] .rows >> text=far-model");
    await page.locator(".planner input").first().fill("far-model");
    await page.click(".planner button");
    await page.waitForSelector(".card >> text=far/far-model");
    await page.locator(".planner input").first().fill("no-such-model");
    await page.click(".planner button");
    await page.waitForSelector(".state.bad >> text=no-such-model");
    await page.waitForSelector("nav a[data-page=routes]:not([hidden])");
    await page.route("**/admin/v1/models", (route) => route.fulfill({ json: { version: "1", managed: false, ready: true, models: [], parts: {} } }));
    await page.reload();
    await page.waitForSelector("nav a[data-page=routes]", { state: "hidden" });
    await done(page);
  },
  async "the planner plans, and says why it does not"() {
    const page = await open("planner");
    await page.waitForSelector("text=No plan yet");
    await page.getByLabel("Model").selectOption("qwen3-8b");
    await page.getByLabel("Hosts").fill("1");
    await page.click(".planner button");
    await page.frameLocator("iframe").locator("text=tokens a second").first().waitFor();
    await page.getByLabel("Hosts").fill("1000");
    await page.click(".planner button");
    await page.waitForSelector(".state.bad >> text=at most 4096");
    await done(page);
  },
  async "the keyboard, the palette and the languages"() {
    const page = await open("overview");
    await ready(page);
    await page.keyboard.press("Control+k");
    await page.keyboard.type("planner");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => location.hash === "#/planner");
    await done(page);
    for (const [locale, word] of [["zh-CN", "概览"], ["ja-JP", "概要"]]) {
      const other = await open("overview", { locale });
      await other.waitForSelector(`nav >> text=${word}`);
      assert.equal(await other.evaluate(() => document.documentElement.lang), locale.slice(0, 2));
      await done(other);
    }
  },
  async "every page is accessible, and fits a telephone and a wall"() {
    for (const colorScheme of ["light", "dark"]) {
      for (const path of PAGES) {
        const page = await open(path, { bypassCSP: true, colorScheme });
        await ready(page);
        await accessible(page, `${path.replaceAll("/", "-")}-${colorScheme}`);
        for (const width of [380, 3840]) {
          await page.setViewportSize({ width, height: 900 });
          const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          assert.ok(over <= 0, `${path} is ${over} px too wide at ${width}`);
          if (width !== 380) continue;
          await page.waitForTimeout(250);
          await page.screenshot({ path: join(process.env.SCREENSHOTS, `${path.replaceAll("/", "-")}-${colorScheme}-380.png`) });
        }
        await done(page);
      }
    }
  },
  async "it is small and quick"() {
    const page = await open("overview");
    await ready(page);
    const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
    const shown = await page.evaluate(() => performance.getEntriesByName("sampan.page")[0]?.startTime);
    const texts = await (await fetch(server.direct)).text();
    const version = texts.match(/console\/([0-9a-f]{16})\//)[1];
    const files = ["app.js", "client.js", "text.js", "theme.js", "icon.svg", "style/all.css"];
    const { readdirSync } = await import("node:fs");
    for (const folder of ["parts", "views", "views/playground", "views/vectors", "views/usage", "views/models", "views/people", "views/logs", "vendor/hyparquet", "text", "fonts"]) {
      for (const name of readdirSync(new URL(`../${folder}`, import.meta.url))) if (/\.(js|css|woff2)$/.test(name)) files.push(`${folder}/${name}`);
    }
    let size = 0;
    const http = await import("node:http");
    for (const file of files) {
      size += await new Promise((resolve, reject) => {
        http.get(`${server.direct}/console/${version}/${file}`, { headers: { "accept-encoding": "gzip" } }, (answer) => {
          if (answer.statusCode !== 200) reject(new Error(`${file}: ${answer.statusCode}`));
          let sum = 0;
          answer.on("data", (data) => { sum += data.length; });
          answer.on("end", () => resolve(sum));
        }).on("error", reject);
      });
    }
    console.log(`  first paint of Overview after ${Math.round(paint)} ms, the page itself after ${Math.round(shown)} ms; ${files.length} files, ${Math.round(size / 1024)} KB compressed`);
    assert.ok(size < SIZE_MAX, `${size} bytes`);
    await done(page);
  },
};

let failed = 0;
const only = new RegExp(process.argv[2] ?? "");
for (const [name, test] of Object.entries(tests).filter(([known]) => only.test(known))) {
  model.play = null;
  const began = Date.now();
  try {
    await test();
    console.log(`ok    ${name} (${Date.now() - began} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}\n${error.stack}`);
    const last = browser.contexts().at(-1)?.pages().at(-1);
    await last?.screenshot({ path: join(process.env.SCREENSHOTS, `failed-${failed}.png`) }).catch(() => {});
  }
}
await browser.close();
await server.stop();
if (problems.length > 0) console.log(`problems on pages:\n  ${problems.join("\n  ")}`);
process.exitCode = failed > 0 || problems.length > 0 ? 1 : 0;
