/** The S3 Vectors API, as far as the console speaks it. */

import { ask } from "../../client.js";

/** Vectors of one page of a listing and of one import; the API's limit is 500. */
const PAGE = 500;

/**
 * @typedef {{ vectorBucketName: string, creationTime: number }} Bucket
 * @typedef {{ indexName: string, dimension: number, distanceMetric: string, creationTime: number }} Index
 * @typedef {{ key: string, data?: { float32: number[] }, metadata?: Record<string, unknown>, distance?: number }} Vector
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
 * @param {string} bucket @param {string} name @param {number[]} vector @param {unknown} filter
 * @returns {Promise<Vector[]>}
 */
export async function query(bucket, name, vector, filter) {
  const body = {
    vectorBucketName: bucket, indexName: name, topK: 20, queryVector: { float32: vector }, returnMetadata: true, returnDistance: true,
    ...(filter ? { filter } : {}),
  };
  return (await call("QueryVectors", body)).vectors;
}

/** @param {string} bucket */
export const createBucket = (bucket) => call("CreateVectorBucket", { vectorBucketName: bucket });

/** @param {string} bucket @param {string} name @param {number} dimension @param {string} metric */
export const createIndex = (bucket, name, dimension, metric) =>
  call("CreateIndex", { vectorBucketName: bucket, indexName: name, dataType: "float32", dimension, distanceMetric: metric });

/**
 * Puts the lines of a JSONL file: `{"key": …, "vector": […], "metadata": {…}}`.
 *
 * @param {string} bucket @param {string} name @param {string} text
 * @param {(share: number) => void} progress
 */
export async function importLines(bucket, name, text, progress) {
  const rows = text.split("\n").filter((line) => line.trim()).map((line, at) => {
    const row = JSON.parse(line);
    const vector = row.vector ?? row.data?.float32 ?? row.data;
    if (typeof row.key !== "string" || !Array.isArray(vector)) throw new Error(`line ${at + 1}: a key and a vector are expected`);
    return { key: row.key, data: { float32: vector }, ...(row.metadata ? { metadata: row.metadata } : {}) };
  });
  for (let at = 0; at < rows.length; at += PAGE) {
    await call("PutVectors", { vectorBucketName: bucket, indexName: name, vectors: rows.slice(at, at + PAGE) });
    progress(Math.min(1, (at + PAGE) / rows.length));
  }
  return rows.length;
}
