/**
 * Conversations, kept in this browser and nowhere else.
 *
 * @typedef {{ id: string, name: string, arguments: string }} ToolCall
 *
 * @typedef {object} Message
 * @property {"user" | "assistant" | "tool"} role
 * @property {string} content
 * @property {string} [reasoning]
 * @property {ToolCall[]} [calls]
 * @property {string} [callId]
 * @property {string[]} [images] data addresses
 * @property {"whole" | "broken" | "stopped" | "length"} [end]
 * @property {string} [fault]
 * @property {{ prompt: number, output: number, firstMs: number, allMs: number }} [figures]
 *
 * @typedef {{ model: string, messages: Message[] }} Lane one model and what was said to it
 *
 * @typedef {object} Settings
 * @property {string} system
 * @property {string} temperature
 * @property {string} topP
 * @property {string} maxTokens
 * @property {string} seed
 * @property {"" | "on" | "off"} thinking
 * @property {string} tools JSON
 * @property {string} schema JSON
 *
 * @typedef {{ id: string, title: string, changed: number, lanes: Lane[], settings: Settings }} Conversation
 */

const STORE = "conversations";
/** Conversations that are kept; the oldest go. */
const KEPT_MAX = 200;

/** @returns {Promise<IDBDatabase>} */
function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("sampan", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} act
 * @returns {Promise<T>}
 */
async function run(mode, act) {
  const database = await open();
  try {
    return await new Promise((resolve, reject) => {
      const request = act(database.transaction(STORE, mode).objectStore(STORE));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  } finally {
    database.close();
  }
}

/** @returns {Promise<Conversation[]>} the newest first */
export async function conversations() {
  const all = /** @type {Conversation[]} */ (await run("readonly", (store) => store.getAll()));
  return all.sort((left, right) => right.changed - left.changed);
}

/** @param {Conversation} conversation */
export async function keep(conversation) {
  conversation.changed = Date.now();
  await run("readwrite", (store) => store.put(structuredClone(conversation)));
  for (const old of (await conversations()).slice(KEPT_MAX)) await forget(old.id);
}

/** @param {string} id */
export async function forget(id) {
  await run("readwrite", (store) => store.delete(id));
}

/**
 * @param {string} model
 * @returns {Conversation}
 */
export function fresh(model) {
  const settings = { system: "", temperature: "", topP: "", maxTokens: "", seed: "", thinking: /** @type {const} */ (""), tools: "", schema: "" };
  return { id: crypto.randomUUID(), title: "", changed: Date.now(), lanes: [{ model, messages: [] }], settings };
}
