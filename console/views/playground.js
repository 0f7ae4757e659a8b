/** Talk to a model, or to two of them side by side. */

import { platform } from "../client.js";
import { fill, h } from "../parts/dom.js";
import { confirmed, copyButton, openDialog, save, toast } from "../parts/feedback.js";
import { choice, tabs } from "../parts/form.js";
import { icon } from "../parts/icon.js";
import { snippets } from "../parts/snippets.js";
import { notice, trouble } from "../parts/state.js";
import { moment, t } from "../text.js";
import { conversations, forget, fresh, keep } from "./playground/history.js";
import { settingsPanel } from "./playground/settings.js";
import { thread } from "./playground/thread.js";
import { requestOf } from "./playground/wire.js";

/** Pictures of one message. */
const IMAGES_MAX = 8;
/** Bytes of one picture. */
const IMAGE_BYTES_MAX = 8 << 20;

/** @param {import("../app.js").Visit} visit */
export async function show({ page, rest, signal }) {
  page.classList.add("whole");
  try {
    const seen = await platform(signal);
    const kept = await conversations().catch(() => []);
    if (signal.aborted) return;
    const models = seen.models.filter((model) => model.generates !== false);
    if (models.length === 0) {
      fill(page, notice({ icon: "models", title: t("models.empty"), text: t("models.empty.text") }));
      return;
    }
    const wanted = rest.startsWith("model/") ? rest.slice(6) : models[0]?.id ?? "";
    const current = kept.find((one) => one.id === rest) ?? fresh(wanted);
    new Playground(page, models, kept, current, signal).draw();
  } catch (error) {
    if (!signal.aborted) fill(page, h("h1", { class: "hush" }, t("nav.playground")), trouble(error, () => show({ page, rest, signal })));
  }
}

class Playground {
  /**
   * @param {HTMLElement} page
   * @param {import("../client.js").Model[]} models
   * @param {import("./playground/history.js").Conversation[]} kept
   * @param {import("./playground/history.js").Conversation} current
   * @param {AbortSignal} signal
   */
  constructor(page, models, kept, current, signal) {
    this.page = page;
    this.models = models;
    this.kept = kept;
    this.current = current;
    this.signal = signal;
    /** @type {AbortController | null} */
    this.running = null;
    /** @type {string[]} */
    this.images = [];
    /** @type {ReturnType<typeof thread>[]} */
    this.threads = [];
    this.lanes = h("div", { class: "lanes" });
    this.panel = h("aside", { class: "panel", "aria-label": t("playground.settings"), hidden: true });
    this.past = h("aside", { class: "past", "aria-label": t("playground.history"), hidden: innerWidth < 1200 });
    this.thumbs = h("div", { class: "thumbs" });
    this.input = h("textarea", { rows: 1, placeholder: t("playground.ask"), "aria-label": t("playground.ask") });
    this.button = h("button", { class: "button first square", type: "submit" });
    /** @type {HTMLElement} */
    this.attach = h("span");
    this.bar = h("header", { class: "talk-bar" });
    signal.addEventListener("abort", () => this.running?.abort());
  }

  draw() {
    const picture = h("input", { type: "file", accept: "image/*", multiple: true, hidden: true });
    picture.addEventListener("change", () => this.addImages([...(picture.files ?? [])]));
    this.attach = h("button", { class: "button bare square", type: "button", "aria-label": t("playground.attach"), title: t("playground.attach"), onclick: () => picture.click() }, icon("image"));
    const composer = h("form", { class: "composer" }, this.thumbs, this.input, h("div", { class: "composer-row" }, this.attach, picture, h("small", { class: "soft" }, t("playground.keys")), this.button));
    composer.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.running) this.running.abort();
      else this.say();
    });
    this.input.addEventListener("input", () => this.grow());
    const bring = (/** @type {DataTransfer | null} */ data, /** @type {Event} */ event) => {
      const pictures = [...(data?.files ?? [])].filter((file) => file.type.startsWith("image/"));
      if (pictures.length === 0 || !this.sees()) return;
      event.preventDefault();
      this.addImages(pictures);
    };
    this.input.addEventListener("paste", (event) => bring(event.clipboardData, event));
    composer.addEventListener("dragover", (event) => { if (this.sees()) event.preventDefault(); });
    composer.addEventListener("drop", (event) => bring(event.dataTransfer, event));
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        if (!this.running) this.say();
      }
    });
    fill(this.page, h("div", { class: "talk" }, this.past, h("section", { class: "talk-main" }, h("h1", { class: "hush" }, t("nav.playground")), this.bar, this.lanes, composer), this.panel));
    this.drawAll();
    if (innerWidth > 820) this.input.focus();
  }

  drawAll() {
    this.drawBar();
    this.drawLanes();
    this.drawPast();
    this.drawButton();
    fill(this.panel, h("div", { class: "head" }, h("div", {}, h("h2", {}, t("playground.settings"))), this.tool("close", t("close"), () => { this.panel.hidden = true; })),
      settingsPanel(this.current.settings, () => this.keepSoon()));
  }

  /**
   * @param {import("../parts/icon.js").IconName} name
   * @param {string} label
   * @param {() => void} act
   */
  tool(name, label, act) {
    return h("button", { class: "button bare square", type: "button", "aria-label": label, title: label, onclick: act }, icon(name));
  }

  drawBar() {
    const isPair = this.current.lanes.length > 1;
    fill(this.bar,
      this.tool("history", t("playground.history"), () => { this.past.hidden = !this.past.hidden; }),
      this.tool("plus", t("playground.new"), () => this.turnTo(fresh(this.current.lanes[0]?.model ?? ""))),
      h("span", { class: "cut title" }, this.current.title || t("playground.new")),
      this.tool("columns", t(isPair ? "playground.single" : "playground.compare"), () => this.compare()),
      this.tool("code", t("playground.code"), () => this.showCode()),
      this.tool("sliders", t("playground.settings"), () => { this.panel.hidden = !this.panel.hidden; }));
  }

  /** Every model that is asked looks at pictures. */
  sees() {
    return this.current.lanes.every((lane) => this.models.find((model) => model.id === lane.model)?.vision);
  }

  drawLanes() {
    this.attach.hidden = !this.sees();
    const options = this.models.map((model) => ({ value: model.id, label: model.id }));
    this.threads = this.current.lanes.map((lane) => thread(lane, {
      again: (index) => this.again(lane, index),
      result: (callId, text) => this.giveResult(lane, callId, text),
    }));
    fill(this.lanes, this.current.lanes.map((lane, index) => {
      const pick = choice(options, lane.model, (value) => { lane.model = value; this.attach.hidden = !this.sees(); this.keepSoon(); }, { "aria-label": t("playground.model") });
      const said = this.threads[index]?.element ?? h("div");
      if (lane.messages.length === 0) said.append(this.welcome());
      return h("div", { class: "lane" }, h("div", { class: "lane-head" }, pick), said);
    }));
  }

  welcome() {
    const ideas = [t("playground.idea.1"), t("playground.idea.2"), t("playground.idea.3")];
    return h("div", { class: "welcome" }, h("h2", {}, t("playground.welcome")), h("p", { class: "soft" }, t("playground.private")),
      h("div", { class: "ideas" }, ideas.map((idea) => h("button", { class: "button", type: "button", onclick: () => { this.input.value = idea; this.say(); } }, idea))));
  }

  drawPast() {
    const rows = this.kept.map((one) => h("li", {},
      h("button", { class: one.id === this.current.id ? "open" : null, type: "button", onclick: () => this.turnTo(one) }, h("span", { class: "cut" }, one.title), h("small", {}, moment(one.changed))),
      h("button", { class: "button bare small square", type: "button", "aria-label": t("playground.delete", { title: one.title }), onclick: () => this.remove(one) }, icon("trash"))));
    const exportAll = h("button", { class: "button bare small", type: "button", onclick: () => save("sampan-conversations.json", JSON.stringify(this.kept, null, 2), "application/json") }, icon("download"), t("playground.export"));
    fill(this.past, h("h2", {}, t("playground.history")), rows.length > 0 ? h("ul", {}, rows) : h("p", { class: "soft" }, t("playground.history.empty")), rows.length > 0 ? exportAll : null);
  }

  drawButton() {
    const label = t(this.running ? "playground.stop" : "playground.send");
    fill(this.button, icon(this.running ? "stop" : "send"));
    this.button.setAttribute("aria-label", label);
    this.button.title = label;
  }

  grow() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight, 240)}px`;
  }

  /** @param {import("./playground/history.js").Conversation} conversation */
  turnTo(conversation) {
    this.running?.abort();
    this.running = null;
    this.current = conversation;
    this.drawAll();
    this.input.focus();
  }

  /** @param {import("./playground/history.js").Conversation} one */
  async remove(one) {
    if (!(await confirmed(t("playground.delete", { title: one.title }), t("playground.delete.text"), t("delete")))) return;
    await forget(one.id);
    this.kept = this.kept.filter((other) => other.id !== one.id);
    if (one.id === this.current.id) this.turnTo(fresh(one.lanes[0]?.model ?? ""));
    else this.drawPast();
  }

  compare() {
    const [first] = this.current.lanes;
    if (!first) return;
    const other = this.models.find((model) => model.id !== first.model)?.id ?? first.model;
    this.current.lanes = this.current.lanes.length > 1 ? [first] : [first, { model: other, messages: structuredClone(first.messages) }];
    this.drawBar();
    this.drawLanes();
  }

  /** @param {File[]} files */
  async addImages(files) {
    for (const file of files) {
      if (this.images.length >= IMAGES_MAX || file.size > IMAGE_BYTES_MAX) {
        toast(t("playground.image.refused", { name: file.name }), "bad");
        continue;
      }
      const reader = new FileReader();
      reader.addEventListener("load", () => {
        this.images.push(String(reader.result));
        this.drawThumbs();
      });
      reader.readAsDataURL(file);
    }
  }

  drawThumbs() {
    fill(this.thumbs, this.images.map((src, at) => h("button", { class: "thumb", type: "button", title: t("playground.image.remove"), "aria-label": t("playground.image.remove"), onclick: () => { this.images.splice(at, 1); this.drawThumbs(); } },
      h("img", { src, alt: t("playground.image") }))));
  }

  async say() {
    const content = this.input.value.trim();
    if (!content && this.images.length === 0) return;
    for (const lane of this.current.lanes) lane.messages.push({ role: "user", content, ...(this.images.length ? { images: [...this.images] } : {}) });
    this.current.title ||= content.slice(0, 80);
    this.input.value = "";
    this.images = [];
    fill(this.thumbs);
    this.grow();
    for (const one of this.threads) one.draw();
    await this.answer(this.threads);
  }

  /** @param {ReturnType<typeof thread>[]} threads */
  async answer(threads) {
    const running = new AbortController();
    this.running = running;
    this.drawButton();
    const { current } = this;
    await Promise.all(threads.map((one) => one.answer(current.settings, running.signal)));
    if (this.running === running) this.running = null;
    this.drawButton();
    await this.keepNow(current);
  }

  /**
   * @param {import("./playground/history.js").Lane} lane
   * @param {number} index of the answer that is written anew
   */
  async again(lane, index) {
    if (this.running) return;
    lane.messages.splice(index);
    const one = this.threads[this.current.lanes.indexOf(lane)];
    one?.draw();
    if (one) await this.answer([one]);
  }

  /**
   * @param {import("./playground/history.js").Lane} lane
   * @param {string} callId
   * @param {string} text
   */
  async giveResult(lane, callId, text) {
    lane.messages.push({ role: "tool", content: text, callId });
    const one = this.threads[this.current.lanes.indexOf(lane)];
    one?.draw();
    const given = new Set(lane.messages.map((message) => message.callId));
    const isOpen = lane.messages.some((message) => message.calls?.some((call) => !given.has(call.id)));
    if (one && !isOpen) await this.answer([one]);
  }

  keepSoon() {
    if (this.current.title) this.keepNow(this.current);
  }

  /** @param {import("./playground/history.js").Conversation} conversation */
  async keepNow(conversation) {
    try {
      await keep(conversation);
      this.kept = await conversations();
      if (this.signal.aborted) return;
      this.drawPast();
      this.drawBar();
    } catch {
      toast(t("playground.unkept"), "bad");
    }
  }

  showCode() {
    const [lane] = this.current.lanes;
    if (!lane) return;
    const body = requestOf(lane.messages.length > 0 ? lane : { ...lane, messages: [{ role: "user", content: this.input.value || "Who are you?" }] }, this.current.settings);
    const code = h("code", {});
    const bar = tabs(t("playground.code"), Object.entries(snippets(body)).map(([name, text]) => ({ name, show: () => { code.textContent = text; } })));
    openDialog({ title: t("playground.code"), wide: true }, bar, h("div", { class: "snippet" }, h("pre", { tabindex: 0 }, code), copyButton(() => code.textContent ?? "")));
  }
}
