// @ts-check
/** @import { Reel } from "./reel.mjs" */
/** @import { TakeInfo } from "../types.mjs" */
import { element } from "./dom.mjs";
import { duration, megabytes, time } from "./format.mjs";
import { say } from "../words.mjs";

export const DRIFT_WARNING = 0.5; // stream/rollout/drift.py: WARN_ABOVE

/** The measurements of the run, and what the viewer should know about them. */
export class Strip {
  #said = "";

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    this.facts = element("dl", { class: "lt-facts", "aria-label": say("Measurements") });
    this.notices = element("ul", { class: "lt-notices", role: "status" });
    /** @type {HTMLElement} */
    this.element = element("div", { class: "lt-strip" }, this.facts, this.notices);
  }

  update() {
    const { take } = this.reel;
    const shown = take && (take.frames > 0 || take.info.stats.resumed_from_s != null);
    const facts = shown ? measurements(take.info, take.growing) : [];
    const warnings = take ? remarks(take.info, take.known) : [];
    const plain = take ? news(take.info) : [];
    const said = JSON.stringify([facts, warnings, plain]);
    if (said === this.#said) return; // so that a screen reader hears only what is new
    this.#said = said;
    this.facts.replaceChildren(...facts.map(([name, value, meaning]) => fact(name, value, meaning)));
    this.notices.replaceChildren(
      ...warnings.map((words) => element("li", { class: "lt-warning" }, words)),
      ...plain.map((words) => element("li", {}, words)),
    );
    this.element.hidden = facts.length + warnings.length + plain.length === 0;
  }
}

/** @param {string} name @param {string} value @param {string} meaning */
function fact(name, value, meaning) {
  return element("div", { title: meaning }, element("dt", {}, name), element("dd", {}, value));
}

/** @param {TakeInfo} info @param {boolean} growing @returns {[string, string, string][]} */
function measurements({ stats, state }, growing) {
  /** @type {[string, string, string][]} */
  const found = [];
  const add = (/** @type {string} */ name, /** @type {string|null} */ value, meaning = "") => {
    if (value !== null) found.push([name, value, meaning]);
  };
  const known = (/** @type {number|null|undefined} */ value, /** @type {(v: number) => string} */ write) =>
    value == null ? null : write(value);
  add(say("first frame"), known(stats.first_frame_s, duration), say("From the start of the run to the first frame"));
  add(say("speed"), known(stats.frames_per_s, (rate) => `${rate.toFixed(1)} fps`), say("Frames made per second"));
  if (growing && state !== "paused") add(say("left"), known(stats.eta_s, duration), say("Estimated time left"));
  add(say("chunk p95"), known(stats.chunk_p95_s, duration), say("95 % of the chunks took at most this long"));
  add(say("drift"), known(stats.drift, (drift) => drift.toFixed(2)),
    say("How far the picture's statistics are from the shot's beginning; above {limit} looks wrong", { limit: DRIFT_WARNING }));
  add(say("density"), known(stats.attention_density, percent), say("Share of attention that was computed"));
  add(say("recall"), known(stats.ann_recall, percent), say("Share of attention that the chosen keys hold, sampled"));
  add(say("KV"), memory(stats.kv_bytes, stats.kv_bytes_planned), say("KV cache: real size of planned size"));
  return found;
}

/** @param {number} share */
function percent(share) {
  return `${Math.round(100 * share)} %`;
}

/** @param {number|null} [bytes] @param {number|null} [planned] */
function memory(bytes, planned) {
  if (bytes == null && planned == null) return null;
  if (bytes == null) return say("{size} planned", { size: megabytes(planned ?? 0) });
  return planned == null ? megabytes(bytes) : say("{size} of {planned}", { size: megabytes(bytes), planned: megabytes(planned) });
}

/** What the viewer should beware of. @param {TakeInfo} info @param {boolean} known */
export function remarks({ stats, message, plan, state }, known) {
  const found = [];
  if (!known) found.push(say("The server keeps this take no longer; press Run to make it again."));
  if (message && state !== "error" && !plan) found.push(message);
  if ((stats.drift ?? 0) > DRIFT_WARNING) {
    found.push(say("The picture drifts from how the shot began; a larger window or sink holds it longer."));
  }
  if (stats.dense_fallbacks) {
    found.push(say("Sparse attention fell back to dense {times} times.", { times: stats.dense_fallbacks }));
  }
  return found;
}

/** What happened as it should. @param {TakeInfo} info */
function news({ stats, state }) {
  const found = [];
  if (stats.resumed_from_s) {
    found.push(say("Resumed at {at}; what is before came from disk.", { at: time(stats.resumed_from_s) }));
  }
  if (state === "stopped") found.push(say("Stopped; every frame made is kept."));
  if (stats.kv_on_host) found.push(say("The KV cache is in main memory while the run is paused."));
  return found;
}
