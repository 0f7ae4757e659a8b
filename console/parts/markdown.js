/**
 * What a model wrote, as it arrives and afterwards.
 *
 * The text is cut into chunks of a few kilobytes at the ends of blocks. The last chunk is open: the server renders it
 * again from time to time, and what arrived since stands behind it as plain text. Closed chunks are rendered once, and
 * only when they come near the screen. So neither a long answer nor a megabyte of it ever costs a long frame.
 */

import { send } from "../client.js";
import { t } from "../text.js";
import { h } from "./dom.js";
import { copyButton } from "./feedback.js";

/** Characters after which a chunk is closed at the next end of a block. */
const CHUNK_CHARS = 3000;
/** Characters after which it is closed anywhere; the server takes 32 kB of UTF-8. */
const CHUNK_CHARS_MAX = 8000;
/** How often the open chunk is rendered, in milliseconds. */
const RENDER_MS = 350;
/** Characters that turn the direction of writing; the server spells them out, and so does the plain text. */
const TURNS = /[\u202a-\u202e\u2066-\u2069]/g;

/** @type {{ createHTML: (html: string) => unknown } | undefined} */
const policy = /** @type {any} */ (window).trustedTypes?.createPolicy("sampan", { createHTML: (/** @type {string} */ html) => html });

/** @type {WeakMap<Element, () => void>} */
const near = new WeakMap();
const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    sight.unobserve(entry.target);
    near.get(entry.target)?.();
  }
}, { rootMargin: "800px" });

/** @param {string} text */
function plain(text) {
  return text.replace(TURNS, (letter) => `‹U+${letter.charCodeAt(0).toString(16).toUpperCase()}›`);
}

/**
 * Markdown as HTML from the server, which is where it is made harmless.
 *
 * @param {string} text
 * @returns {Promise<string>}
 */
async function render(text) {
  const response = await send("/console/render", { method: "POST", body: { texts: [text] } });
  return (await response.json()).html[0];
}

/**
 * @param {Element} place
 * @param {string} html from [render]
 */
function put(place, html) {
  place.innerHTML = /** @type {string} */ (policy ? policy.createHTML(html) : html);
  for (const block of place.querySelectorAll("pre")) {
    const code = block.querySelector("code");
    block.setAttribute("tabindex", "0");
    block.append(copyButton(() => code?.textContent ?? "", t("copy.code")));
  }
}

class Chunk {
  constructor() {
    this.text = "";
    /** What stands before the text when it is rendered: the fence of a code block that was cut. */
    this.opening = "";
    this.shown = 0;
    this.rendered = h("div");
    this.tail = h("span", { class: "raw" });
    this.element = h("div", { class: "chunk", dir: "auto" }, this.tail);
  }

  /** Shows what is not rendered yet as it is. */
  showTail() {
    this.tail.textContent = plain(this.text.slice(this.shown));
  }

  async render() {
    const upTo = this.text.length;
    try {
      const html = await render(this.opening + this.text);
      put(this.rendered, html);
      this.element.replaceChildren(...this.rendered.childNodes, this.tail);
      this.shown = upTo;
      this.showTail();
    } catch {
      // The plain text stays: it is complete, only not pretty.
      this.showTail();
    }
  }

  renderWhenNear() {
    near.set(this.element, () => this.render());
    sight.observe(this.element);
  }
}

/** Text that grows. */
export class Prose {
  constructor() {
    this.element = h("div", { class: "prose" });
    this.text = "";
    this.open = new Chunk();
    this.fence = "";
    this.timer = 0;
    this.isRendering = false;
    this.isDrawn = true;
    this.element.append(this.open.element);
  }

  /** @param {string} piece */
  push(piece) {
    this.text += piece;
    let rest = piece;
    while (rest.length > 0) {
      const room = CHUNK_CHARS_MAX - this.open.text.length;
      let take = rest.slice(0, room);
      // A pair of surrogates stays together.
      if (take.length < rest.length && /[\ud800-\udbff]$/.test(take) && take.length > 1) take = take.slice(0, -1);
      this.open.text += take;
      rest = rest.slice(take.length);
      if (this.open.text.length >= CHUNK_CHARS) this.close(rest.length > 0);
    }
    this.draw();
    this.renderSoon();
  }

  /**
   * Closes the open chunk at the end of a block, or, if it has to be, at the end of a line or anywhere.
   *
   * @param {boolean} force
   */
  close(force) {
    const text = this.open.text;
    const cut = lastBlockEnd(text, this.fence !== "");
    const at = cut > 0 ? cut : force || text.length >= CHUNK_CHARS_MAX - 1 ? text.lastIndexOf("\n") + 1 || text.length : 0;
    if (at === 0) return;
    const closed = this.open;
    this.open = new Chunk();
    this.open.text = text.slice(at);
    closed.text = text.slice(0, at);
    closed.shown = Math.min(closed.shown, at);
    this.fence = fenceAfter(closed.text, this.fence);
    this.open.opening = this.fence ? `${this.fence}\n` : "";
    closed.showTail();
    this.element.append(this.open.element);
    closed.renderWhenNear();
  }

  draw() {
    if (!this.isDrawn) return;
    this.isDrawn = false;
    requestAnimationFrame(() => {
      this.isDrawn = true;
      this.open.showTail();
    });
  }

  renderSoon() {
    if (this.timer || this.isRendering) return;
    this.timer = window.setTimeout(async () => {
      this.timer = 0;
      this.isRendering = true;
      const chunk = this.open;
      await chunk.render();
      this.isRendering = false;
      if (chunk !== this.open || chunk.shown < chunk.text.length) this.renderSoon();
    }, RENDER_MS);
  }

  /** Nothing more will come. */
  end() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.open.showTail();
    this.open.renderWhenNear();
  }
}

/** @param {string} text */
export function prose(text) {
  const whole = new Prose();
  whole.element.dir = "auto";
  let rest = text;
  while (rest.length > 0) {
    whole.push(rest.slice(0, CHUNK_CHARS));
    rest = rest.slice(CHUNK_CHARS);
  }
  whole.end();
  return whole.element;
}

/**
 * Where the last block ends that is not inside a fence; 0 if there is none.
 *
 * @param {string} text
 * @param {boolean} startsInFence
 */
function lastBlockEnd(text, startsInFence) {
  let isFenced = startsInFence;
  let end = 0;
  let at = 0;
  for (const line of text.split("\n")) {
    if (/^ {0,3}(```|~~~)/.test(line)) isFenced = !isFenced;
    at += line.length + 1;
    // A list goes on after a blank line; what is indented belongs to what stands before it.
    if (!isFenced && line.trim() === "" && at < text.length && !/^( |\t|[-*+]|\d+[.)])/.test(text.slice(at, at + 3))) end = at;
  }
  return end;
}

/**
 * The opening line of the fence that is open at the end of a text, or nothing.
 *
 * @param {string} text
 * @param {string} before
 */
function fenceAfter(text, before) {
  let fence = before;
  for (const line of text.split("\n")) {
    const mark = line.match(/^ {0,3}(```+|~~~+)(.*)/);
    if (mark) fence = fence ? "" : `${mark[1]}${mark[2]}`;
  }
  return fence;
}
