/** The S3 Vectors API, as far as the console speaks it. */

import { ask } from "../../client.js";

/** Vectors of one page of a listing. */
const PAGE = 500;

/**
 * @typedef {{ vectorBucketName: string, creationTime: number }} Bucket
 * @typedef {{ metadataKey: string, language?: string, status?: string }} TextField
 * @typedef {{ indexName: string, dimension: number, distanceMetric: string, creationTime: number, metadataConfiguration?: { textSearchConfigurations?: TextField[] } }} Index
 * @typedef {{ key: string, data?: { float32: number[] }, metadata?: Record<string, unknown>, distance?: number, scores?: { bm25Scores?: { score: number }[] } }} Vector
 */

/**
 * @param {string} operation
 * @param {Record<string, unknown>} body
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
function call(operation, body, signal) {
  return ask(`/${operation}`, { method: "POST", body, ...(signal ? { signal } : {}) });
}

/**
 * Follows a listing to its end, or until there is enough.
 *
 * @param {string} operation
 * @param {Record<string, unknown>} body
 * @param {string} field
 * @param {number} most
 * @param {AbortSignal} signal
 */
async function all(operation, body, field, most, signal) {
  const found = [];
  let nextToken;
  do {
    const page = await call(operation, { ...body, maxResults: PAGE, ...(nextToken ? { nextToken } : {}) }, signal);
    found.push(...(page[field] ?? []));
    nextToken = page.nextToken;
  } while (nextToken && found.length < most);
  return found;
}

/** @param {AbortSignal} signal @returns {Promise<Bucket[]>} */
export const buckets = (signal) => all("ListVectorBuckets", {}, "vectorBuckets", 10_000, signal);

/** @param {string} bucket @param {AbortSignal} signal @returns {Promise<Index[]>} */
export async function indexes(bucket, signal) {
  const listed = await all("ListIndexes", { vectorBucketName: bucket }, "indexes", 1000, signal);
  return Promise.all(listed.map((one) => index(bucket, one.indexName, signal)));
}

/** @param {string} bucket @param {string} name @param {AbortSignal} signal @returns {Promise<Index>} */
export async function index(bucket, name, signal) {
  return (await call("GetIndex", { vectorBucketName: bucket, indexName: name }, signal)).index;
}

/** @param {string} bucket @param {string} name @param {number} most @param {AbortSignal} signal @returns {Promise<Vector[]>} */
export function vectors(bucket, name, most, signal) {
  return all("ListVectors", { vectorBucketName: bucket, indexName: name, returnData: true, returnMetadata: true }, "vectors", most, signal);
}

/**
 * @param {string} bucket @param {string} name @param {import("./search.js").Wish} wish @param {unknown} filter
 * @returns {Promise<Vector[]>}
 */
export async function query(bucket, name, wish, filter) {
  const place = { vectorBucketName: bucket, indexName: name, topK: 20, returnMetadata: true, ...(filter ? { filter } : {}) };
  if ("field" in wish) return (await call("QueryVectors", { ...place, queryTexts: [{ metadataKey: wish.field, text: wish.text }], returnScores: true })).vectors;
  const numbers = "vector" in wish ? { float32: wish.vector } : { text: wish.text };
  return (await call("QueryVectors", { ...place, queryVector: numbers, returnDistance: true })).vectors;
}

/** @param {string} bucket */
export const createBucket = (bucket) => call("CreateVectorBucket", { vectorBucketName: bucket });

/** @param {string} bucket @param {string} name @param {number} dimension @param {string} metric */
export const createIndex = (bucket, name, dimension, metric) =>
  call("CreateIndex", { vectorBucketName: bucket, indexName: name, dataType: "float32", dimension, distanceMetric: metric });

/**
 * @param {string} bucket @param {string} name @param {import("./rows.js").Row[]} rows @param {AbortSignal} signal
 */
export function put(bucket, name, rows, signal) {
  const list = rows.map(({ key, vector, text, metadata }) => ({ key, data: vector ? { float32Base64: packed(vector) } : { text }, ...(metadata ? { metadata } : {}) }));
  return call("PutVectors", { vectorBucketName: bucket, indexName: name, vectors: list }, signal);
}

/** Numbers as little-endian `f32`s in base64: a third of their JSON. @param {number[]} numbers */
function packed(numbers) {
  const view = new DataView(new ArrayBuffer(4 * numbers.length));
  numbers.forEach((value, at) => view.setFloat32(4 * at, value, true));
  let text = "";
  for (const byte of new Uint8Array(view.buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}
