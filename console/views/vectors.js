/** Vector buckets: what they hold, and what lies near what. */

import { fill, h } from "../parts/dom.js";
import { formDialog } from "../parts/feedback.js";
import { choice, field } from "../parts/form.js";
import { icon } from "../parts/icon.js";
import { loaded, notice } from "../parts/state.js";
import { count, moment, t } from "../text.js";
import { buckets, createBucket, createIndex, indexes } from "./vectors/api.js";
import { showIndex } from "./vectors/browse.js";

/** @param {import("../app.js").Visit} visit */
export async function show({ page, rest, signal }) {
  const [bucket, index] = rest.split("/");
  if (bucket && index) return showIndex(page, bucket, index, signal);
  if (bucket) return showBucket(page, bucket, signal);
  const body = h("section", { class: "card" });
  const add = h("button", { class: "button first", type: "button", onclick: newBucket }, icon("plus"), t("vectors.bucket.new"));
  fill(page, head(t("nav.vectors"), t("vectors.lead"), add), body);
  await loaded(body, buckets, (list) => list.length === 0
    ? notice({ icon: "vectors", title: t("vectors.empty"), text: t("vectors.empty.text") })
    : rows([t("models.name"), t("vectors.made")], list.map((one) => [link(one.vectorBucketName, one.vectorBucketName), moment(one.creationTime * 1000)])), signal);
}

/**
 * @param {HTMLElement} page
 * @param {string} bucket
 * @param {AbortSignal} signal
 */
async function showBucket(page, bucket, signal) {
  const body = h("section", { class: "card" });
  const add = h("button", { class: "button first", type: "button", onclick: () => newIndex(bucket) }, icon("plus"), t("vectors.index.new"));
  fill(page, head(bucket, t("vectors.bucket.lead"), add, h("a", { class: "back", href: "#/vectors" }, t("vectors.back"))), body);
  await loaded(body, (until) => indexes(bucket, until), (list) => list.length === 0
    ? notice({ icon: "vectors", title: t("vectors.bucket.empty"), text: t("vectors.bucket.empty.text") })
    : rows([t("models.name"), t("vectors.dimension"), t("vectors.metric"), t("vectors.made")], list.map((one) =>
      [link(`${bucket}/${one.indexName}`, one.indexName), count(one.dimension), one.distanceMetric, moment(one.creationTime * 1000)])), signal);
}

/**
 * @param {string} title
 * @param {string} lead
 * @param {Node} action
 * @param {Node | null} [back]
 */
export function head(title, lead, action, back = null) {
  return h("div", { class: "head" }, h("div", {}, back, h("h1", {}, title), h("p", {}, lead)), h("div", { class: "actions" }, action));
}

/**
 * @param {string} path
 * @param {string} name
 */
function link(path, name) {
  return h("a", { href: `#/vectors/${path}` }, name);
}

/**
 * @param {string[]} titles
 * @param {(Node | string)[][]} lines
 */
function rows(titles, lines) {
  return h("div", { class: "scroll" }, h("table", { class: "rows" },
    h("thead", {}, h("tr", {}, titles.map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, lines.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell)))))));
}

function newBucket() {
  const name = h("input", { class: "input", required: true, pattern: "[a-z0-9][a-z0-9\\-]{1,61}[a-z0-9]", autocomplete: "off" });
  formDialog(t("vectors.bucket.new"), [field(t("models.name"), name, t("vectors.name.hint"))], t("vectors.create"), async () => {
    await createBucket(name.value);
    location.hash = `#/vectors/${name.value}`;
  });
}

/** @param {string} bucket */
function newIndex(bucket) {
  const name = h("input", { class: "input", required: true, pattern: "[a-z0-9][a-z0-9.\\-]{1,61}[a-z0-9]", autocomplete: "off" });
  const dimension = h("input", { class: "input", type: "number", min: 1, max: 4096, value: "384", required: true });
  let metric = "cosine";
  const pick = choice([{ value: "cosine", label: "cosine" }, { value: "euclidean", label: "euclidean" }], metric, (value) => { metric = value; });
  const fields = [field(t("models.name"), name, t("vectors.name.hint")), field(t("vectors.dimension"), dimension), field(t("vectors.metric"), pick)];
  formDialog(t("vectors.index.new"), fields, t("vectors.create"), async () => {
    await createIndex(bucket, name.value, Number(dimension.value), metric);
    location.hash = `#/vectors/${bucket}/${name.value}`;
  });
}
