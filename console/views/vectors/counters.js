/** What an index holds, while it fills. */

import { ask } from "../../client.js";
import { fill, h } from "../../parts/dom.js";
import { spark } from "../../parts/spark.js";
import { every } from "../../parts/state.js";
import { count, t } from "../../text.js";

/** How often the server is asked, in milliseconds. */
const LOOK_MS = 2000;

/**
 * @param {string} bucket
 * @param {string} name
 * @param {AbortSignal} signal
 */
export function counters(bucket, name, signal) {
  const line = spark(t("vectors.pace"));
  const facts = h("dl", { class: "inside facts" });
  const element = h("section", { class: "card", "aria-label": t("vectors.counters"), hidden: true }, h("header", {}, h("h2", {}, t("vectors.counters"))), facts, line.element);
  /** @type {{ rows: number, at: number } | null} */
  let before = null;
  const look = async () => {
    const seen = await ask(`/admin/v1/vectors/${bucket}/${name}`, { signal });
    const now = performance.now();
    const pace = before ? Math.max(0, (1000 * (seen.rows - before.rows)) / Math.max(1, now - before.at)) : 0;
    before = { rows: seen.rows, at: now };
    line.push(pace);
    element.hidden = false;
    const rows = [
      [t("vectors.rows"), count(seen.rows)], [t("vectors.pace"), count(pace)], [t("vectors.tail"), count(seen.tail_rows)],
      [t("vectors.segments"), count(seen.segments)], [t("vectors.commits"), count(seen.log_next)],
      ...(seen.damaged_manifests > 0 ? [[t("vectors.damaged"), count(seen.damaged_manifests)]] : []),
    ];
    fill(facts, rows.flatMap(([word, value]) => [h("dt", {}, word ?? ""), h("dd", { class: "number" }, value ?? "")]));
  };
  // Whoever may not see the counts sees a page without them.
  look().catch(() => {});
  every(LOOK_MS, signal, look);
  return { element, look };
}
