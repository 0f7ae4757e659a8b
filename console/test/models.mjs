// Models and what is said to them: the benchmark, pictures, who may be talked to.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { startHub } from "./hub.mjs";

const PICTURE = new URL("../../fixtures/tiny/qwen3_vl/image0.png", import.meta.url);

/** @param {import("./pages.mjs").Tools} tools */
export const modelTests = ({ open, ready, done, say, accessible }) => ({
  async "a model is pulled, shown as it comes, and served"() {
    const hub = await startHub();
    const page = await open("models");
    const wish = async (model, address) => {
      await page.getByRole("button", { name: "Pull a model" }).click();
      await page.getByLabel("Model", { exact: true }).fill(model);
      await page.getByLabel("From").selectOption({ label: "Another address" });
      await page.getByLabel("Address").fill(address);
      await page.getByRole("button", { name: "Pull", exact: true }).click();
    };
    await wish("Qwen/Tiny", hub.address);
    await page.waitForSelector(".pulls >> text=/\\d of \\d files/");
    await accessible(page, "pulls");
    hub.goOn();
    await page.waitForSelector(".pulls a[href='#/models/Tiny']");
    await page.waitForSelector("table.rows a[href='#/models/Tiny']");
    await wish("Qwen/Nothing", hub.address);
    await page.waitForSelector(".pulls [role=alert] >> text=Repository not found");
    await wish("not a name", hub.address);
    await page.waitForSelector(".toast.bad >> text=is no name of a model");
    await page.keyboard.press("Escape");
    await page.goto(page.url().replace("#/models", "#/playground/model/Tiny"));
    await page.reload();
    await page.waitForSelector(".composer");
    await page.click("[aria-label='Settings']");
    await page.getByLabel("Longest answer").fill("4");
    await say(page, "ab");
    await page.waitForSelector(".said.model .figures");
    await done(page);
    hub.stop();
  },
  async "a model is measured, and one that embeds is not"() {
    const page = await open("models/sampan-nano");
    await page.click("[aria-label='Quick benchmark'] button");
    await page.waitForSelector("text=Questions of different beginnings");
    const cells = await page.locator("[aria-label='Quick benchmark'] tbody td").allTextContents();
    assert.equal(cells.length, 10);
    assert.ok(Number(cells[3].replaceAll(",", "")) > 0, cells.join(" "));
    await page.route("**/v1/chat/completions", (route) => route.fulfill({ status: 503, json: { error: { message: "too busy to be measured" } } }));
    await page.click("[aria-label='Quick benchmark'] button");
    await page.waitForSelector("text=too busy to be measured");
    await page.evaluate(() => { location.hash = "#/models/sampan-nano-embed"; });
    await page.waitForSelector("h1 >> text=sampan-nano-embed");
    await ready(page);
    assert.equal(await page.locator("[aria-label='Quick benchmark']").count(), 0);
    await done(page);
  },
  async "pictures go to a model that sees, and to no other"() {
    const page = await open("playground");
    await page.waitForSelector(".composer");
    assert.equal(await page.locator("[aria-label='Add pictures']:not([hidden])").count(), 0);
    assert.ok(!(await page.locator(".lane-head option").allTextContents()).includes("sampan-nano-embed"));
    await page.locator(".lane-head select").selectOption("seer");
    await page.waitForSelector("[aria-label='Add pictures']:not([hidden])");
    const picture = { name: "a.png", mimeType: "image/png", buffer: readFileSync(PICTURE) };
    await page.setInputFiles(".composer [type=file]", [picture, picture]);
    await page.waitForFunction(() => document.querySelectorAll(".thumbs img").length === 2);
    await page.locator("[aria-label='Remove picture']").first().click();
    assert.equal(await page.locator(".thumbs img").count(), 1);
    await page.click("[aria-label='Settings']");
    await page.getByLabel("Longest answer").fill("8");
    await say(page, "What is it?");
    await page.waitForSelector(".said.model .figures");
    assert.equal(await page.locator(".ending.bad").count(), 0);
    assert.equal(await page.locator(".said.user img").count(), 1);
    assert.match(await page.textContent(".said.model .figures small"), /tokens/);
    await page.click("[aria-label='Compare two models']");
    await page.waitForSelector("[aria-label='Add pictures']", { state: "hidden" });
    await done(page);
  },
  async "every language says everything, with the same values"() {
    const texts = {};
    for (const name of ["en", "zh", "ja"]) texts[name] = (await import(`../text/${name}.js`)).default;
    const holes = (text) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();
    for (const name of ["zh", "ja"]) {
      assert.deepEqual(Object.keys(texts[name]).sort(), Object.keys(texts.en).sort());
      for (const [key, text] of Object.entries(texts[name])) {
        assert.deepEqual(holes(text), holes(texts.en[key]), `${name} ${key}`);
        assert.notEqual(text.trim(), "", `${name} ${key}`);
      }
    }
  },
});
