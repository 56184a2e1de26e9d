// @ts-check
/** @import { Reel } from "../view/reel.mjs" */
/** @import { Stats, TakeInfo } from "../types.mjs" */
import { element } from "../view/dom.mjs";
import { duration, megabytes, time } from "../view/format.mjs";
import { latencies } from "./latencies.mjs";
import { translate } from "../words.mjs";

export const DRIFT_WARNING = 0.5; // stream/rollout/drift.py: WARN_ABOVE

/** The measurements of the run, warnings and notices. */
export class StatusStrip {
  #rendered = "";

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    this.facts = element("dl", { class: "lt-facts", "aria-label": translate("Measurements") });
    this.notices = element("ul", { class: "lt-notices", role: "status" });
    /** @type {HTMLElement} */
    this.element = element("div", { class: "lt-strip" }, this.facts, this.notices);
  }

  update() {
    const { take, session } = this.reel;
    const shown = take && (take.frames > 0 || take.info.stats.resumed_from_s != null);
    const facts = shown ? measurements(statsOf(take.info.stats, session?.refined?.take.info.stats), take.info.state, take.growing) : [];
    const warnings = take ? warningsOf(take.info, take.known) : [];
    const notices = take ? noticesOf(take.info) : [];
    const content = JSON.stringify([facts, warnings, notices]);
    if (content === this.#rendered) return; // a screen reader then reads only changes
    this.#rendered = content;
    this.facts.replaceChildren(...facts.map(([name, value, meaning]) => fact(name, value, meaning)));
    this.notices.replaceChildren(
      ...warnings.map((text) => element("li", { class: "lt-warning" }, text)),
      ...notices.map((text) => element("li", {}, text)),
    );
    this.element.hidden = facts.length + warnings.length + notices.length === 0;
  }
}

/** @param {string} name @param {string} value @param {string} meaning */
function fact(name, value, meaning) {
  return element("div", { title: meaning }, element("dt", {}, name), element("dd", {}, value));
}

/** The measurements of a shot, with the times of generator and stage: only the refined take knows those of both.
 * @param {Stats} stats of the shot's own take @param {Stats} [refined] @returns {Stats} */
export function statsOf(stats, refined) {
  if (refined?.stage_factor == null) return stats;
  return { ...stats, generator_factor: refined.generator_factor, stage_factor: refined.stage_factor };
}

/** @param {Stats} stats @param {string} state @param {boolean} growing @returns {[string, string, string][]} */
function measurements(stats, state, growing) {
  /** @type {[string, string, string][]} */
  const found = [];
  const add = (/** @type {string} */ name, /** @type {string|null} */ value, meaning = "") => {
    if (value !== null) found.push([name, value, meaning]);
  };
  const format = (/** @type {number|null|undefined} */ value, /** @type {(v: number) => string} */ write) =>
    value == null ? null : write(value);
  found.push(...latencies(stats));
  add(translate("speed"), format(stats.frames_per_s, (rate) => `${rate.toFixed(1)} fps`), translate("Frames generated per second"));
  if (growing && state !== "paused") add(translate("left"), format(stats.eta_s, duration), translate("Estimated time left"));
  add(translate("chunk p95"), format(stats.chunk_p95_s, duration), translate("95 % of the chunks took at most this long"));
  add(translate("drift"), driftOf(stats),
    translate("Distance of the picture's statistics from the start of the shot; above {limit} looks wrong", { limit: DRIFT_WARNING }));
  add(translate("density"), format(stats.attention_density, percent), translate("Share of attention that was computed"));
  add(translate("recall"), format(stats.ann_recall, percent), translate("Share of attention on the chosen keys, measured on samples"));
  add(translate("left out"), format(stats.live_dropped, String),
    translate("Frames of the live input that came while chunks were made, and were not used"));
  add(translate("KV"), memory(stats.kv_bytes, stats.kv_bytes_planned), translate("KV cache: actual size of planned size"));
  return found;
}

/** The drift, known only where it is too large, and the rules against it. @param {import("../types.mjs").Stats} stats
 * @returns {string|null} */
export function driftOf({ drift, memory_rules: rules }) {
  const value = drift == null ? null : drift.toFixed(2);
  if (!rules) return value;
  return value === null
    ? translate("not seen, with {rules}", { rules }) : translate("{drift}, with {rules}", { drift: value, rules });
}

/** @param {number} share */
function percent(share) {
  return `${Math.round(100 * share)} %`;
}

/** The size of the KV cache. Without the planned size where that is exceeded: an edit of the running shot, such as a
 * guidance with a branch more, takes more than was planned. @param {number|null} [bytes] @param {number|null} [planned] */
export function memory(bytes, planned) {
  if (bytes == null && planned == null) return null;
  if (bytes == null) return translate("{size} planned", { size: megabytes(planned ?? 0) });
  return planned == null || bytes > planned ? megabytes(bytes) : translate("{size} of {planned}", { size: megabytes(bytes), planned: megabytes(planned) });
}

/** Return the warnings about a take. @param {TakeInfo} info @param {boolean} known */
export function warningsOf({ stats, message, state }, known) {
  const found = [];
  if (!known) found.push(translate("This preview is no longer on the server. Press Run to resume."));
  if (message && state !== "error") found.push(message);
  if ((stats.drift ?? 0) > DRIFT_WARNING) {
    found.push(translate("The picture drifts away from the start of the shot. A larger window or sink keeps it stable longer."));
  }
  if (stats.dense_fallbacks) {
    found.push(translate("Sparse attention fell back to dense {times} times.", { times: stats.dense_fallbacks }));
  }
  return found;
}

/** Return the notices about a take. @param {TakeInfo} info */
function noticesOf({ stats, state }) {
  const found = [];
  if (stats.resumed_from_s) {
    found.push(translate("Resumed at {at}. Earlier frames came from disk.", { at: time(stats.resumed_from_s) }));
  }
  if (state === "stopped") found.push(translate("Stopped. Every frame is kept."));
  if (stats.kv_on_host) found.push(translate("The KV cache is in main memory while the run is paused."));
  return found;
}
