/**
 * Rows out of files: JSONL, CSV and Parquet, read piece by piece, so that a file may be larger than the memory.
 *
 * A row has a key (`key` or `id`), and a vector (`vector`, `embedding` or `values`; in CSV also numbered columns) or a
 * text that the platform embeds. What else it has is its metadata.
 */

/**
 * @typedef {{ key: string, vector?: number[], text?: string, metadata?: Record<string, unknown> }} Row
 * @typedef {{ row: Row, share: number }} Read a row, and how much of the file is read, from 0 to 1
 */

const KEYS = ["key", "id", "_id"];
const VECTORS = ["vector", "embedding", "values"];
/** Characters of one line; a file without line ends does not fill the memory. */
const LINE_CHARS_MAX = 4_000_000;
/** Rows of a Parquet file that are decoded at once. */
const PARQUET_ROWS = 500;

/**
 * @param {File} file
 * @returns {AsyncGenerator<Read>}
 */
export function rowsOf(file) {
  if (/\.parquet$/i.test(file.name)) return parquetRows(file);
  return /\.(csv|tsv)$/i.test(file.name) ? csvRows(file) : jsonRows(file);
}

/**
 * @param {File} file
 * @returns {AsyncGenerator<Read>}
 */
async function* jsonRows(file) {
  let number = 0;
  for await (const { line, share } of lines(file)) {
    number += 1;
    if (!line.trim()) continue;
    const found = at("line", number, () => JSON.parse(line));
    const vector = found.vector ?? found.embedding ?? found.data?.float32 ?? (Array.isArray(found.data) ? found.data : undefined);
    yield { row: checked(found.key ?? found.id, vector, found.data?.text ?? found.text, found.metadata, `line ${number}`), share };
  }
}

/**
 * @param {File} file
 * @returns {AsyncGenerator<{ line: string, share: number }>}
 */
async function* lines(file) {
  let rest = "";
  for await (const { text, share } of texts(file)) {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    if (rest.length > LINE_CHARS_MAX) throw new Error(`a line has more than ${LINE_CHARS_MAX} characters`);
    for (const line of parts) yield { line, share };
  }
  yield { line: rest, share: 1 };
}

/**
 * @param {File} file
 * @returns {AsyncGenerator<{ text: string, share: number }>}
 */
async function* texts(file) {
  const source = file.stream().getReader();
  const decoder = new TextDecoder();
  let read = 0;
  try {
    for (;;) {
      const { done, value } = await source.read();
      if (done) break;
      read += value.length;
      yield { text: decoder.decode(value, { stream: true }), share: read / Math.max(1, file.size) };
    }
    yield { text: decoder.decode(), share: 1 };
  } finally {
    source.cancel().catch(() => {});
  }
}

/**
 * @param {File} file
 * @returns {AsyncGenerator<Read>}
 */
async function* csvRows(file) {
  /** @type {string[] | null} */
  let names = null;
  let number = 0;
  for await (const { cells, share } of records(file)) {
    number += 1;
    if (!names) {
      names = cells.map((name) => name.trim());
      continue;
    }
    if (cells.length === 1 && cells[0] === "") continue;
    if (cells.length !== names.length) throw new Error(`line ${number}: ${cells.length} cells, ${names.length} expected`);
    yield { row: csvRow(names, cells, `line ${number}`), share };
  }
}

/**
 * The records of RFC 4180, with the separator that the first line has: a comma, a semicolon or a tab.
 *
 * @param {File} file
 * @returns {AsyncGenerator<{ cells: string[], share: number }>}
 */
export async function* records(file) {
  /** @type {string[]} */
  let cells = [];
  let [cell, separator] = ["", ""];
  let [isQuoted, wasQuote] = [false, false];
  for await (const { text, share } of texts(file)) {
    if (!separator) separator = [",", ";", "\t"].find((one) => text.split("\n", 1)[0]?.includes(one)) ?? ",";
    for (const letter of text) {
      if (isQuoted && letter !== '"') cell += letter;
      else if (isQuoted) [isQuoted, wasQuote] = [false, true];
      else if (letter === '"' && wasQuote) [isQuoted, wasQuote, cell] = [true, false, `${cell}"`];
      else if (letter === '"' && cell === "") isQuoted = true;
      else if (letter === separator || letter === "\n") {
        cells.push(letter === "\n" ? cell.replace(/\r$/, "") : cell);
        [cell, wasQuote] = ["", false];
        if (letter === "\n") {
          yield { cells, share };
          cells = [];
        }
      } else cell += letter;
    }
    if (cell.length > LINE_CHARS_MAX) throw new Error(`a cell has more than ${LINE_CHARS_MAX} characters`);
  }
  if (isQuoted) throw new Error("the file ends inside a quoted cell");
  if (cell || cells.length > 0) yield { cells: [...cells, cell], share: 1 };
}

/**
 * @param {string[]} names
 * @param {string[]} cells
 * @param {string} where
 */
function csvRow(names, cells, where) {
  /** @type {Record<string, unknown>} */
  const found = {};
  const numbered = [];
  for (const [index, name] of names.entries()) {
    const cell = cells[index] ?? "";
    if (/^[a-z]{0,3}_?\d+$/i.test(name)) numbered.push(Number(cell));
    else if (VECTORS.includes(name)) found[name] = at(where, "", () => (cell.trim().startsWith("[") ? JSON.parse(cell) : cell.trim().split(/[\s,;]+/).map(Number)));
    else if (KEYS.includes(name) || name === "text") found[name] = cell;
    else if (cell !== "") found[name] = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(cell) ? Number(cell) : cell === "true" || cell === "false" ? cell === "true" : cell;
  }
  if (numbered.length > 0 && !VECTORS.some((name) => name in found)) found["vector"] = numbered;
  return flat(found, where);
}

/**
 * @param {File} file
 * @returns {AsyncGenerator<Read>}
 */
async function* parquetRows(file) {
  const { parquetMetadataAsync, parquetReadObjects } = await reader();
  const source = { byteLength: file.size, slice: (/** @type {number} */ from, /** @type {number} */ to) => file.slice(from, to).arrayBuffer() };
  const metadata = await parquetMetadataAsync(source);
  const all = Number(metadata.num_rows);
  for (let first = 0; first < all; first += PARQUET_ROWS) {
    const last = Math.min(all, first + PARQUET_ROWS);
    const rows = await parquetReadObjects({ file: source, metadata, rowStart: first, rowEnd: last });
    for (const [index, row] of rows.entries()) yield { row: flat(plain(row), `row ${first + index + 1}`), share: (first + index + 1) / all };
  }
}

/** What reads Parquet is only loaded where somebody brings such a file; its own authors check its types. */
async function reader() {
  const [metadata, read] = await Promise.all(["metadata", "read"].map((name) => import(new URL(`../../vendor/hyparquet/${name}.js`, import.meta.url).href)));
  return { ...metadata, ...read };
}

/** Values of a Parquet file as JSON has them. @param {Record<string, unknown>} row */
function plain(row) {
  /** @param {unknown} value @returns {unknown} */
  const one = (value) => {
    if (typeof value === "bigint") return Number(value);
    if (value instanceof Date) return value.toISOString();
    if (ArrayBuffer.isView(value)) return Array.from(/** @type {Float32Array} */ (value), Number);
    return Array.isArray(value) ? value.map(one) : value;
  };
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => [name, one(value)]));
}

/**
 * A row whose metadata stands beside its key and its vector.
 *
 * @param {Record<string, unknown>} found
 * @param {string} where
 */
function flat(found, where) {
  const name = KEYS.find((one) => one in found);
  const numbers = VECTORS.find((one) => one in found);
  const rest = Object.entries(found).filter(([field]) => field !== name && field !== numbers);
  const isText = !numbers && "text" in found;
  return checked(name ? found[name] : undefined, numbers ? found[numbers] : undefined, isText ? found["text"] : undefined, Object.fromEntries(rest), where);
}

/**
 * @param {unknown} key
 * @param {unknown} vector
 * @param {unknown} text
 * @param {unknown} metadata
 * @param {string} where
 * @returns {Row}
 */
function checked(key, vector, text, metadata, where) {
  const isKey = typeof key === "string" || typeof key === "number";
  const isVector = Array.isArray(vector) && vector.every((value) => typeof value === "number" && Number.isFinite(value));
  if (!isKey || String(key) === "" || !(isVector || (vector === undefined && typeof text === "string" && text !== ""))) {
    throw new Error(`${where}: a key and a vector or a text are expected`);
  }
  const known = metadata && typeof metadata === "object" && Object.keys(metadata).length > 0 ? { metadata: /** @type {Record<string, unknown>} */ (metadata) } : {};
  return { key: String(key), ...(isVector ? { vector } : { text: String(text) }), ...known };
}

/**
 * Says where a text could not be read.
 *
 * @template T
 * @param {string} what
 * @param {number | string} number
 * @param {() => T} act
 * @returns {T}
 */
function at(what, number, act) {
  try {
    return act();
  } catch (error) {
    throw new Error(`${what} ${number}`.trim() + `: ${error instanceof Error ? error.message : error}`);
  }
}
