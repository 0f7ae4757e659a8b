// What a person sets in the console.

import assert from "node:assert/strict";

/** @param {import("./pages.mjs").Tools} tools */
export const settingTests = ({ open, done }) => ({
  async "settings: the theme, the language, and what this browser keeps"() {
    const page = await open("settings");
    await page.waitForSelector("text=This server asks nobody for a key");
    await page.waitForSelector("dd >> text=books, routes, vectors");
    await page.getByLabel("Theme").selectOption("dark");
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
    await page.getByLabel("Theme").selectOption("");
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), undefined);
    await page.getByLabel("Language").last().selectOption("ja");
    await page.waitForSelector("h1 >> text=設定");
    await page.route("**/admin/v1/models", (route) => route.fulfill({ status: 500, json: { error: { message: "no platform" } } }));
    await page.reload();
    await page.waitForSelector(".state.bad >> text=no platform");
    await done(page);
  },
});
