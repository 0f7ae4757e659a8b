/** What the console says, in the reader's language. */

import english from "./text/en.js";

/** @typedef {keyof typeof english} TextKey */

/** The languages that have a message file, by their own names. */
export const LANGUAGES = /** @type {const} */ ({ en: "English", zh: "中文", ja: "日本語" });

/** @typedef {keyof typeof LANGUAGES} Language */

/** @returns {Language} */
function chosen() {
  const wanted = [localStorage.getItem("sampan.language") ?? "", ...navigator.languages];
  for (const name of wanted) {
    const short = name.slice(0, 2).toLowerCase();
    if (short in LANGUAGES) return /** @type {Language} */ (short);
  }
  return "en";
}

/** The language in use. */
export const language = chosen();

/** @type {Record<TextKey, string>} */
const texts = language === "en" ? english : (await import(`./text/${language}.js`)).default;

/**
 * A text, with the values in its braces filled in.
 *
 * @param {TextKey} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  return texts[key].replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** @param {Language} name */
export function setLanguage(name) {
  localStorage.setItem("sampan.language", name);
  location.reload();
}

const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });
const precise = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });

/** @param {number} value */
export const count = (value) => whole.format(value);

/** @param {number} value */
export const compact = (value) => short.format(value);

/** @param {number} value */
export const decimal = (value) => precise.format(value);

/**
 * Powers of 1000, as disks are sold.
 *
 * @param {number} value
 */
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let rest = value;
  while (rest >= 1000 && unit < units.length - 1) {
    rest /= 1000;
    unit += 1;
  }
  return `${unit === 0 || rest >= 100 ? whole.format(rest) : precise.format(rest)} ${units[unit]}`;
}

/** @param {number} milliseconds */
export function duration(milliseconds) {
  if (milliseconds > 0 && milliseconds < 10) return `${precise.format(milliseconds)} ms`;
  if (milliseconds < 1000) return `${whole.format(milliseconds)} ms`;
  if (milliseconds < 60_000) return `${precise.format(milliseconds / 1000)} s`;
  return `${whole.format(Math.floor(milliseconds / 60_000))} min ${whole.format((milliseconds / 1000) % 60)} s`;
}

/** @param {number} milliseconds since the Unix epoch */
export function moment(milliseconds) {
  const isToday = new Date(milliseconds).toDateString() === new Date().toDateString();
  const form = isToday ? { timeStyle: /** @type {const} */ ("short") } : { dateStyle: /** @type {const} */ ("medium") };
  return new Intl.DateTimeFormat(language, form).format(milliseconds);
}

const dollarForms = [2, 4, 6].map((digits) => new Intl.NumberFormat(language, { style: "currency", currency: "USD", minimumFractionDigits: 2, maximumFractionDigits: digits }));

/**
 * Money; small amounts keep their digits.
 *
 * @param {number} micro millionths of a dollar
 */
export function dollars(micro) {
  const size = Math.abs(micro);
  const form = dollarForms[size === 0 || size >= 1e6 ? 0 : size >= 1e4 ? 1 : 2];
  return form ? form.format(micro / 1e6) : "";
}

const dayForm = new Intl.DateTimeFormat(language, { month: "short", day: "numeric", timeZone: "UTC" });
const fullDayForm = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeZone: "UTC" });
const clockForm = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

/** Days in the books begin and end in UTC. @param {number} milliseconds */
export const dayName = (milliseconds) => dayForm.format(milliseconds);

/** @param {number} milliseconds */
export const wholeDay = (milliseconds) => fullDayForm.format(milliseconds);

/** @param {number} milliseconds */
export const clockTime = (milliseconds) => clockForm.format(milliseconds);
