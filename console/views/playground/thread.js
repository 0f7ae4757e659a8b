/** What was said: one lane of a conversation, and the answer that is being written. */

import { ClientError, chat } from "../../client.js";
import { fill, h } from "../../parts/dom.js";
import { copyButton } from "../../parts/feedback.js";
import { icon } from "../../parts/icon.js";
import { Prose, prose } from "../../parts/markdown.js";
import { explain } from "../../parts/state.js";
import { count, decimal, duration, t } from "../../text.js";
import { requestOf } from "./wire.js";

/** @typedef {import("./history.js").Message} Message */

/** How near its end a thread must be scrolled to follow the answer, in pixels. */
const FOLLOW_PX = 80;

/**
 * @param {import("./history.js").Lane} lane
 * @param {{ again: (index: number) => void, result: (callId: string, text: string) => void }} acts
 */
export function thread(lane, acts) {
  const list = h("div", { class: "thread", role: "log", "aria-label": lane.model, tabindex: 0 });
  const draw = () => fill(list, lane.messages.map((message, index) => bubble(message, index)));

  /**
   * @param {Message} message
   * @param {number} index
   */
  const bubble = (message, index) => {
    if (message.role === "user") {
      const images = message.images?.map((src) => h("img", { src, alt: t("playground.image") })) ?? [];
      return h("article", { class: "said user", "aria-label": t("playground.you") }, images, h("div", { class: "raw", dir: "auto" }, message.content));
    }
    if (message.role === "tool") {
      return h("article", { class: "said tool", "aria-label": t("playground.result") }, h("span", { class: "pill" }, icon("tool"), t("playground.result")), h("pre", { tabindex: 0 }, message.content));
    }
    const isLast = index === lane.messages.length - 1;
    const parts = [];
    if (message.reasoning) parts.push(thought(prose(message.reasoning), false));
    if (message.content) parts.push(prose(message.content));
    for (const call of message.calls ?? []) parts.push(callCard(call, answered(call.id) ? null : acts.result));
    parts.push(ending(message), tools(message, isLast ? () => acts.again(index) : null));
    return h("article", { class: "said model", "aria-label": lane.model }, parts);
  };
  /** @param {string} id */
  const answered = (id) => lane.messages.some((message) => message.callId === id);

  /**
   * Writes the next answer into the lane.
   *
   * @param {import("./history.js").Settings} settings
   * @param {AbortSignal} signal
   */
  const answer = async (settings, signal) => {
    const body = requestOf(lane, settings);
    /** @type {Message} */
    const message = { role: "assistant", content: "", reasoning: "", calls: [], end: "broken" };
    lane.messages.push(message);
    const live = h("article", { class: "said model live", "aria-label": lane.model, "aria-busy": "true" }, h("div", { class: "typing", role: "status", "aria-label": t("playground.waiting") }, h("i"), h("i"), h("i")));
    list.append(live);
    list.scrollTop = list.scrollHeight;
    const began = performance.now();
    const written = writer(live, list, message);
    try {
      for await (const chunk of chat(body, signal)) {
        const choice = chunk.choices[0];
        if (choice?.delta) written.take(choice.delta);
        if (choice?.finish_reason) message.end = choice.finish_reason === "length" ? "length" : "whole";
        if (chunk.usage) {
          const first = written.firstAt() || performance.now();
          message.figures = { prompt: chunk.usage.prompt_tokens, output: chunk.usage.completion_tokens, firstMs: first - began, allMs: performance.now() - began };
        }
      }
    } catch (error) {
      message.end = signal.aborted ? "stopped" : "broken";
      if (!signal.aborted) message.fault = error instanceof ClientError && error.trouble === "broken" && !error.message ? t("playground.cut") : explain(error);
    }
    written.end();
    const index = lane.messages.indexOf(message);
    live.replaceWith(finished(live, message, index));
  };

  /**
   * The answer as it was written, with its end; what was drawn stays, so nothing jumps.
   *
   * @param {HTMLElement} live
   * @param {Message} message
   * @param {number} index
   */
  const finished = (live, message, index) => {
    live.classList.remove("live");
    live.removeAttribute("aria-busy");
    live.querySelector(".typing")?.remove();
    for (const call of message.calls ?? []) live.append(callCard(call, acts.result));
    const last = ending(message);
    if (last) live.append(last);
    live.append(tools(message, () => acts.again(index)));
    const moved = h("article", { class: "said model", "aria-label": lane.model });
    moved.append(...live.childNodes);
    return moved;
  };
  draw();
  return { element: list, draw, answer };
}

/**
 * @param {HTMLElement} live
 * @param {HTMLElement} list
 * @param {Message} message
 */
function writer(live, list, message) {
  /** @type {Prose | null} */
  let thinking = null;
  /** @type {Prose | null} */
  let text = null;
  let first = 0;
  let isFollowing = true;
  let isScheduled = false;
  list.addEventListener("scroll", () => { isFollowing = list.scrollHeight - list.scrollTop - list.clientHeight < FOLLOW_PX; }, { passive: true });
  const follow = () => {
    if (isScheduled || !isFollowing) return;
    isScheduled = true;
    requestAnimationFrame(() => {
      isScheduled = false;
      if (isFollowing) list.scrollTop = list.scrollHeight;
    });
  };
  /** @param {import("../../client.js").ChatDelta} delta */
  const take = (delta) => {
    if (!first && (delta.content || delta.reasoning_content || delta.tool_calls)) {
      first = performance.now();
      live.querySelector(".typing")?.remove();
    }
    if (delta.reasoning_content) {
      message.reasoning += delta.reasoning_content;
      if (!thinking) {
        thinking = new Prose();
        live.append(thought(thinking.element, true));
      }
      thinking.push(delta.reasoning_content);
    }
    if (delta.content) {
      message.content += delta.content;
      if (!text) {
        live.querySelector("details")?.removeAttribute("open");
        text = new Prose();
        live.append(text.element);
      }
      text.push(delta.content);
    }
    for (const piece of delta.tool_calls ?? []) {
      const calls = message.calls ?? [];
      const call = (calls[piece.index] ??= { id: piece.id ?? "", name: "", arguments: "" });
      call.name += piece.function.name ?? "";
      call.arguments += piece.function.arguments ?? "";
    }
    follow();
  };
  const end = () => {
    thinking?.end();
    text?.end();
    follow();
  };
  return { take, end, firstAt: () => first };
}

/**
 * @param {Element} inside
 * @param {boolean} isOpen
 */
function thought(inside, isOpen) {
  return h("details", { class: "thought", open: isOpen }, h("summary", {}, icon("chevron"), t("playground.thought")), inside);
}

/**
 * @param {import("./history.js").ToolCall} call
 * @param {((callId: string, text: string) => void) | null} result
 */
function callCard(call, result) {
  let pretty = call.arguments;
  try {
    pretty = JSON.stringify(JSON.parse(call.arguments), null, 2);
  } catch {
    // What the model wrote is no JSON; it is shown as it is.
  }
  const card = h("section", { class: "call" }, h("header", {}, icon("tool"), h("b", {}, call.name)), h("pre", { tabindex: 0 }, pretty));
  if (!result) return card;
  const input = h("textarea", { class: "input code", rows: 2, "aria-label": t("playground.result"), placeholder: t("playground.result.hint"), required: true });
  const form = h("form", { class: "stack tight" }, input, h("div", {}, h("button", { class: "button small first", type: "submit" }, t("playground.result.send"))));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    form.remove();
    result(call.id, input.value);
  });
  card.append(form);
  return card;
}

/** @param {Message} message */
function ending(message) {
  if (message.end === "broken") return h("p", { class: "ending bad", role: "alert" }, icon("alert"), h("span", {}, h("b", {}, t("playground.broken")), " ", message.fault ?? ""));
  if (message.end === "stopped") return h("p", { class: "ending" }, t("playground.stopped"));
  if (message.end === "length") return h("p", { class: "ending" }, t("playground.length"));
  return null;
}

/**
 * @param {Message} message
 * @param {(() => void) | null} again
 */
function tools(message, again) {
  const retry = again ? h("button", { class: "button bare small square", type: "button", "aria-label": t("playground.again"), title: t("playground.again"), onclick: again }, icon("again")) : null;
  const copy = copyButton(() => message.content, t("playground.copy"));
  copy.classList.add("bare");
  const figures = message.figures;
  const text = figures ? t("playground.figures", {
    tokens: count(figures.output), first: duration(figures.firstMs),
    speed: decimal(figures.output / Math.max(0.001, (figures.allMs - figures.firstMs) / 1000)),
  }) : "";
  return h("footer", { class: "figures" }, copy, retry, h("small", { class: "soft number" }, text));
}
