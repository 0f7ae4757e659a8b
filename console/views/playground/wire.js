/** A lane of a conversation as a request of the OpenAI API. */

/**
 * @param {import("./history.js").Lane} lane
 * @param {import("./history.js").Settings} settings
 * @returns {Record<string, unknown>}
 */
export function requestOf(lane, settings) {
  /** @type {Record<string, unknown>[]} */
  const messages = lane.messages.filter((message) => message.content || message.calls?.length || message.images?.length).map(wireMessage);
  if (settings.system.trim()) messages.unshift({ role: "system", content: settings.system });
  /** @type {Record<string, unknown>} */
  const body = { model: lane.model, messages };
  const numbers = { temperature: settings.temperature, top_p: settings.topP, max_tokens: settings.maxTokens, seed: settings.seed };
  for (const [name, text] of Object.entries(numbers)) {
    if (text.trim()) body[name] = Number(text);
  }
  if (settings.thinking) body["enable_thinking"] = settings.thinking === "on";
  const tools = parsed(settings.tools);
  if (Array.isArray(tools) && tools.length > 0) body["tools"] = tools;
  const schema = parsed(settings.schema);
  if (schema) body["response_format"] = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
  return body;
}

/** @param {string} text */
function parsed(text) {
  try {
    return text.trim() ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

/** @param {import("./history.js").Message} message */
function wireMessage(message) {
  if (message.role === "tool") return { role: "tool", tool_call_id: message.callId, content: message.content };
  if (message.role === "assistant") {
    const calls = message.calls?.map((call) => ({ id: call.id, type: "function", function: { name: call.name, arguments: call.arguments } }));
    return { role: "assistant", content: message.content, ...(calls?.length ? { tool_calls: calls } : {}) };
  }
  if (!message.images?.length) return { role: "user", content: message.content };
  const images = message.images.map((url) => ({ type: "image_url", image_url: { url } }));
  return { role: "user", content: [...images, { type: "text", text: message.content }] };
}

/**
 * What is wrong with a text that should be JSON, or nothing.
 *
 * @param {string} text
 * @param {"array" | "object"} form
 */
export function faultOf(text, form) {
  if (!text.trim()) return "";
  try {
    const value = JSON.parse(text);
    return Array.isArray(value) === (form === "array") && typeof value === "object" && value !== null ? "" : form;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
