// Vectors: buckets and indexes, files of three kinds, searches by vector, meaning and words, counters.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

/** 600 rows in three row groups, by pyarrow with Snappy: id, embedding (4 × f32), year, title (a third is null). */
const PARQUET = new URL("rows.parquet", import.meta.url);

/** @param {import("./pages.mjs").Tools} tools */
export const vectorTests = ({ open, done, server }) => ({
  async "vectors: a bucket, an index, an import, a search with a filter, an error"() {
    const page = await open("vectors");
    await page.waitForSelector("text=No bucket yet");
    await page.click("text=New bucket");
    await page.fill("dialog input", "papers");
    await page.click("dialog >> text=Create");
    await page.waitForSelector("text=No index yet");
    await page.click("text=New index");
    await page.getByLabel("Name").fill("small");
    await page.getByLabel("Dimensions").fill("4");
    await page.click("dialog >> text=Create");
    await page.waitForSelector("text=No vector yet");
    const lines = Array.from({ length: 700 }, (_, at) => JSON.stringify({ key: `k${at}`, vector: [Math.sin(at), Math.cos(at), at / 700, 1], metadata: { year: 2000 + (at % 30) } }));
    const bring = (name, text) => page.setInputFiles("[type=file]", { name, mimeType: "application/octet-stream", buffer: Buffer.from(text) });
    await bring("a.jsonl", lines.join("\n"));
    await page.waitForSelector(".toast.good >> text=700 vectors imported");
    await page.waitForSelector(".card > header .pill >> text=700");
    assert.equal(await page.locator("svg.chart circle").count(), 700);
    await page.waitForSelector("[aria-label=Counters] dd >> text=700");
    await page.fill(".planner textarea", "[0, 1, 0, 1]");
    await page.fill(".planner input", '{"year": {"$gte": 2020}}');
    await page.click(".planner button");
    await page.waitForSelector("text=20 nearest");
    assert.ok(!(await page.textContent(".window .lines")).includes('"year":2001'));
    assert.equal(await page.locator("svg.plane.searched circle.found").count(), 20);
    await page.fill(".planner textarea", "[1]");
    await page.click(".planner button");
    await page.waitForFunction(() => document.querySelector(".planner .fault").textContent !== "");
    await bring("a.jsonl", '{"key": 1}');
    await page.waitForSelector(".toast.bad >> text=line 1: a key and a vector or a text are expected");
    await page.evaluate(() => { location.hash = "#/vectors/nothing-here"; });
    await page.waitForSelector(".state.bad");
    await done(page);
  },
  async "vectors: CSV and Parquet are imported, and what is wrong in them is named"() {
    const page = await open("vectors/papers/small");
    await page.waitForSelector(".card > header .pill >> text=700");
    const bring = (name, buffer) => page.setInputFiles("[type=file]", { name, mimeType: "application/octet-stream", buffer: Buffer.from(buffer) });
    await bring("b.csv", 'key,v0,v1,v2,v3,note,year\r\nc1,1,0,0,0,"a ""quoted"", note",2001\r\nc2,0,1,0,0,"two\nlines",2002\r\n');
    await page.waitForSelector(".toast.good >> text=2 vectors imported");
    await bring("c.csv", 'id;vector;open\nd1;[0, 0, 1, 0];true\n');
    await page.waitForSelector(".toast.good >> text=1 vectors imported");
    await bring("rows.parquet", readFileSync(PARQUET));
    await page.waitForSelector(".toast.good >> text=600 vectors imported");
    await page.waitForSelector(".card > header .pill >> text=1,303");
    const got = await fetch(`${server.direct}/GetVectors`, { method: "POST", body: JSON.stringify({ vectorBucketName: "papers", indexName: "small", keys: ["c1", "d1", "p599"], returnMetadata: true, returnData: true }) });
    const { vectors } = await got.json();
    const of = (key) => vectors.find((one) => one.key === key);
    assert.deepEqual(of("c1").metadata, { note: 'a "quoted", note', year: 2001 });
    assert.deepEqual([of("d1").metadata, of("d1").data.float32], [{ open: true }, [0, 0, 1, 0]]);
    assert.deepEqual(of("p599").metadata, { year: 2029, title: "Paper 599" });
    for (const [name, text, why] of [
      ["d.csv", "key,v0\na,1,2\n", "line 2: 3 cells, 2 expected"], ["e.csv", 'key,v0\n"a', "the file ends inside a quoted cell"],
      ["f.csv", "name,v0\na,1\n", "line 2: a key and a vector or a text are expected"], ["g.jsonl", "{", "line 1:"], ["h.parquet", "no parquet", "parquet"],
    ]) {
      await bring(name, text);
      await page.waitForSelector(`.toast.bad >> text=${why}`);
      await page.evaluate(() => document.querySelectorAll(".toast").forEach((toast) => toast.remove()));
    }
    await done(page);
  },
  async "vectors: texts are embedded, and found by meaning and by words"() {
    const call = async (operation, body) => {
      const answer = await fetch(`${server.direct}/${operation}`, { method: "POST", body: JSON.stringify(body) });
      assert.equal(answer.status, 200, await answer.clone().text());
    };
    const metadataConfiguration = { textSearchConfigurations: [{ metadataKey: "text", language: "en" }] };
    await call("CreateIndex", { vectorBucketName: "papers", indexName: "texts", dataType: "float32", dimension: 256, distanceMetric: "cosine", metadataConfiguration });
    const page = await open("vectors/papers/texts");
    await page.waitForSelector("text=No vector yet");
    const said = ["The boat sails on the river", "A cat sleeps on the roof", "Bread is baked in the morning"];
    const lines = said.map((text, at) => JSON.stringify({ key: `t${at}`, text, metadata: { text } }));
    await page.setInputFiles("[type=file]", { name: "t.jsonl", mimeType: "application/x-ndjson", buffer: Buffer.from(lines.join("\n")) });
    await page.waitForSelector(".toast.good >> text=3 vectors imported");
    await page.getByLabel("Search by").selectOption({ label: "Meaning of a text" });
    await page.fill(".planner textarea", "The boat sails on the river");
    await page.click(".planner button");
    await page.waitForSelector("text=3 nearest");
    assert.match(await page.locator(".window .lines .line").first().textContent(), /t0/);
    await page.getByLabel("Search by").selectOption({ label: "Words in “text”" });
    await page.fill(".planner textarea", "cats");
    await page.click(".planner button");
    await page.waitForSelector("text=1 nearest");
    assert.match(await page.locator(".window .lines .line").first().textContent(), /t1/);
    await done(page);
  },
});
