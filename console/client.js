/** Every word that the console exchanges with the server goes through here. */

/**
 * What went wrong, and what a person can do about it.
 *
 * `offline`: nobody answers. `denied`: a key or a right is missing. `missing`: it is not there. `refused`: the request is
 * wrong. `busy`: later. `broken`: a stream that ended before its end. `fault`: the server's.
 *
 * @typedef {"offline" | "denied" | "missing" | "refused" | "busy" | "broken" | "fault"} Trouble
 */

export class ClientError extends Error {
  /**
   * @param {Trouble} trouble
   * @param {string} message
   * @param {number} [status]
   */
  constructor(trouble, message, status = 0) {
    super(message);
    this.trouble = trouble;
    this.status = status;
  }
}

/** Tells the shell whether the server answers. */
export const connection = new EventTarget();

/**
 * @param {string} path
 * @param {{ method?: string, body?: unknown, signal?: AbortSignal }} [options]
 * @returns {Promise<Response>}
 */
export async function send(path, { method = "GET", body, signal } = {}) {
  const headers = new Headers({ accept: "application/json" });
  if (body !== undefined) headers.set("content-type", "application/json");
  if (page) headers.set(PAGE, page);
  const text = body === undefined ? null : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { method, headers, body: text, signal: signal ?? null, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    connection.dispatchEvent(new Event("lost"));
    throw new ClientError("offline", error instanceof Error ? error.message : String(error));
  }
  connection.dispatchEvent(new Event("found"));
  if (response.status === 401 && path !== SESSION) connection.dispatchEvent(new Event("stranger"));
  if (!response.ok) throw await failure(response);
  return response;
}

/** Where a page signs in, and the header with what only our own pages know. */
const SESSION = "/console/session";
const PAGE = "x-sampan-page";
let page = "";

/**
 * Who has signed in. `keys: false`: the server asks nobody.
 *
 * @typedef {{ keys: boolean, key?: string, project?: string, organisation?: string, role?: string, runs_place?: boolean, page?: string }} Session
 */

/**
 * Who has signed in; null if somebody has to.
 *
 * @returns {Promise<Session | null>}
 */
export async function session() {
  try {
    return kept(await ask(SESSION));
  } catch (error) {
    if (error instanceof ClientError && error.status === 401) return null;
    throw error;
  }
}

/**
 * @param {string} key
 * @returns {Promise<Session>}
 */
export async function signIn(key) {
  return kept(await ask(SESSION, { method: "POST", body: { key } }));
}

export async function signOut() {
  await ask(SESSION, { method: "DELETE" });
}

/** Where else people sign in, if anywhere. @returns {Promise<string | null>} */
export async function elsewhere() {
  const response = await fetch(SESSION, { headers: { accept: "application/json" } });
  return response.status === 401 ? (await response.json()).elsewhere ?? null : null;
}

/** @param {Session} found */
function kept(found) {
  page = found.page ?? "";
  return found;
}

/**
 * The JSON of an answer.
 *
 * @param {string} path
 * @param {{ method?: string, body?: unknown, signal?: AbortSignal }} [options]
 * @returns {Promise<any>}
 */
export async function ask(path, options) {
  const response = await send(path, options);
  return response.status === 204 ? null : response.json();
}

/** @param {Response} response */
async function failure(response) {
  const text = await response.text().catch(() => "");
  let message = text.trim() || response.statusText;
  try {
    const body = JSON.parse(text);
    message = body.error?.message ?? body.message ?? (typeof body.error === "string" ? body.error : message);
  } catch {
    // A body that is no JSON is shown as it is.
  }
  return new ClientError(troubleOf(response.status), message, response.status);
}

/**
 * @param {number} status
 * @returns {Trouble}
 */
function troubleOf(status) {
  if (status === 401 || status === 403) return "denied";
  if (status === 404) return "missing";
  if (status === 429 || status === 503) return "busy";
  return status >= 500 ? "fault" : "refused";
}

/**
 * A chat completion, piece by piece. Ends normally only if the server said that the answer is whole; otherwise it
 * throws, and what came before is a broken answer.
 *
 * @param {Record<string, unknown>} body
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<ChatChunk>}
 */
export async function* chat(body, signal) {
  const whole = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await send("/v1/chat/completions", { method: "POST", body: whole, signal });
  let isWhole = false;
  for await (const data of serverSent(response, signal)) {
    if (data === "[DONE]") {
      isWhole = true;
      break;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ClientError("broken", chunk.error.message ?? "");
    yield chunk;
  }
  if (!isWhole) throw new ClientError("broken", "");
}

/**
 * @typedef {object} ChatChunk
 * @property {{ delta: ChatDelta, finish_reason: string | null }[]} choices
 * @property {{ prompt_tokens: number, completion_tokens: number, prompt_tokens_details?: { cached_tokens: number } } | null} [usage]
 *
 * @typedef {object} ChatDelta
 * @property {string} [content]
 * @property {string} [reasoning_content]
 * @property {{ index: number, id?: string, function: { name?: string, arguments?: string } }[]} [tool_calls]
 */

/** Characters of one event; a stream without line ends does not fill the memory. */
const EVENT_CHARS_MAX = 8_000_000;

/**
 * @param {Response} response
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<string>}
 */
async function* serverSent(response, signal) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      buffer += value;
      let end = buffer.search(/\r?\n\r?\n/);
      while (end >= 0) {
        const block = buffer.slice(0, end);
        buffer = buffer.slice(end).replace(/^\r?\n\r?\n/, "");
        const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length > 0) yield data.join("\n");
        end = buffer.search(/\r?\n\r?\n/);
      }
      if (buffer.length > EVENT_CHARS_MAX) throw new ClientError("broken", "an event is too long");
    }
  } catch (error) {
    if (signal.aborted || error instanceof ClientError) throw error;
    throw new ClientError("broken", error instanceof Error ? error.message : String(error));
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * @typedef {object} Model
 * @property {string} id
 * @property {"loaded" | "on_disk" | "loading" | "failed"} state
 * @property {string} [reason]
 * @property {number} context_tokens
 * @property {string} architecture
 * @property {string} container
 * @property {string} weight_format
 * @property {number} parameters
 * @property {number} size_bytes
 * @property {boolean} tools
 * @property {boolean} thinking
 * @property {boolean} [vision]
 * @property {boolean} [generates] false: it embeds or ranks
 * @property {number} [layers_done]
 * @property {number} [layers_all]
 * @property {number} [weights_bytes]
 * @property {number} [kv_used_bytes]
 * @property {number} [kv_max_bytes]
 * @property {number} [running]
 * @property {number} [waiting]
 * @property {number} [tokens_per_second]
 * @property {number} [output_tokens]
 * @property {number} [prompt_tokens]
 * @property {number} [cached_tokens]
 *
 * @typedef {object} Platform
 * @property {string} version
 * @property {{ accounts: boolean, books: boolean, routes: boolean, vectors: boolean }} [parts]
 * @property {boolean} managed
 * @property {boolean} ready
 * @property {Model[]} models
 */

/**
 * @param {AbortSignal} [signal]
 * @returns {Promise<Platform>}
 */
export function platform(signal) {
  return ask("/admin/v1/models", signal ? { signal } : {});
}

/**
 * A request as the server remembers it. Times count from its arrival.
 *
 * @typedef {object} Seen
 * @property {string} id
 * @property {string} route
 * @property {string} model
 * @property {string | null} project
 * @property {string | null} key
 * @property {"waiting" | "computing" | "generating" | "finished" | "refused" | "failed" | "left"} state
 * @property {number} arrived_at_ms
 * @property {number} prompt_tokens
 * @property {number} cached_tokens
 * @property {number} output_tokens
 * @property {number | null} accepted_us
 * @property {number | null} first_token_us
 * @property {number | null} over_us
 * @property {string | null} reason
 */

/**
 * The last requests, newest first.
 *
 * @param {AbortSignal} [signal]
 * @returns {Promise<Seen[]>}
 */
export async function recentRequests(signal) {
  return (await ask("/admin/v1/requests", signal ? { signal } : {})).requests;
}

/**
 * When the pieces of an answer came; times count from the arrival of the request. Between two of `at_us` there are
 * `every` pieces.
 *
 * @typedef {{ pieces: number, every: number, at_us: number[], longest_us: number, longest_at_us: number }} Steps
 *
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {Promise<Steps>}
 */
export async function requestSteps(id, signal) {
  return (await ask(`/admin/v1/requests/${encodeURIComponent(id)}`, { signal })).steps;
}

/**
 * Every request when it is over.
 *
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<Seen>}
 */
export async function* tailRequests(signal) {
  const response = await send("/admin/v1/requests/tail", { signal });
  for await (const data of serverSent(response, signal)) {
    const news = JSON.parse(data);
    if (news.id) yield news;
  }
}

/**
 * @typedef {object} Total
 * @property {number} start_ms
 * @property {string} project
 * @property {string} key
 * @property {string} model
 * @property {string} region
 * @property {string} activity
 * @property {number} requests
 * @property {number} tokens_in
 * @property {number} tokens_cached
 * @property {number} tokens_out
 * @property {number} units
 * @property {number} price_micro
 */

/**
 * @param {Record<string, string>} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<Total[]>}
 */
export async function usage(query, signal) {
  return (await ask(`/admin/v1/usage?${new URLSearchParams(query)}`, signal ? { signal } : {})).data;
}

/**
 * Keeps a file on the server.
 *
 * @param {File} file
 * @param {string} purpose
 * @param {(sent: number, all: number) => void} progress
 * @returns {Promise<{ id: string }>}
 */
export function upload(file, purpose, progress) {
  const form = new FormData();
  form.append("purpose", purpose);
  form.append("file", file, file.name);
  return new Promise((resolve, reject) => {
    // Only this old interface says how much of a body is on its way.
    const request = new XMLHttpRequest();
    request.upload.addEventListener("progress", (event) => progress(event.loaded, event.total));
    request.addEventListener("error", () => reject(new ClientError("offline", "")));
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText));
      else failure(new Response(request.responseText, { status: request.status })).then(reject);
    });
    request.open("POST", "/v1/files");
    if (page) request.setRequestHeader(PAGE, page);
    request.send(form);
  });
}
