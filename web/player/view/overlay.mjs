// @ts-check
/** @import { Reel } from "./reel.mjs" */
/** @import { Take } from "../takes/take.mjs" */
import { element } from "./dom.mjs";
import { duration, megabytes, time } from "./format.mjs";
import { say } from "../words.mjs";

/** Words over the picture: what to do while there is none, and how the run ended. */
export class Overlay {
  #said = "";

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    /** @type {HTMLElement} */
    this.card = element("div", { class: "lt-card" });
    /** @type {HTMLElement} */
    this.banner = element("div", { class: "lt-banner", role: "status", hidden: true });
    this.state = element("div", { class: "lt-state", "aria-hidden": "true" });
  }

  update() {
    const { take } = this.reel;
    const words = card(this.reel);
    const banner = take && take.frames > 0 ? this.#banner(take) : null;
    const earlier = !take && this.reel.screen.video ? say("From an earlier run") : "";
    const state = take && take.frames > 0 ? stateWord(take, this.reel) : earlier;
    const said = JSON.stringify([words, banner, state]);
    if (said === this.#said) return;
    this.#said = said;
    this.card.hidden = words === null;
    if (words) this.card.replaceChildren(...cardParts(words));
    this.banner.hidden = banner === null;
    this.banner.textContent = banner ?? "";
    this.state.hidden = state === "";
    this.state.textContent = state;
  }

  /** @param {Take} take */
  #banner(take) {
    const { state, resume_at_s: at, message } = take.info;
    if (this.reel.inGap) return say("This part is no longer kept by the server.");
    if (state === "error") return message ?? say("The run failed; the console says why.");
    if (state === "interrupted") return resumeWords(at);
    return null;
  }
}

/** @param {number|null} at */
function resumeWords(at) {
  if (at == null) return say("Cancelled. What was made is kept.");
  return say("Cancelled. Press Run to resume at {at}.", { at: time(at).padStart(5, "0") });
}

/** @param {Take} take @param {Reel} reel */
function stateWord(take, { head }) {
  if (take.info.state === "paused") return say("Run paused");
  if (take.info.state === "stopping") return say("Stopping");
  if (!take.growing) return "";
  return head.following ? "" : say("Still generating");
}

/** @typedef {{title: string, text: string, facts?: [string, string][], bad?: boolean}} Words */

/** What stands there as long as there is no picture. @param {Reel} reel @returns {Words|null} */
function card({ take, place, screen }) {
  if (!take && screen.video) return null;
  if (!take) return { title: say("No video yet"), text: place.emptyHint() };
  if (take.frames > 0) return null;
  const { state, message, resume_at_s: at, plan } = take.info;
  if (state === "error") return { title: say("The run failed"), text: message ?? "", bad: true };
  if (plan && !take.growing) return planWords(plan);
  if (state === "interrupted") return { title: say("Cancelled"), text: resumeWords(at) };
  if (!take.growing) return { title: say("No frames"), text: message ?? say("The run made no frames.") };
  if (plan) return { ...planWords(plan), title: say("Waiting for the first chunk") };
  return { title: say("Waiting for the first chunk"), text: message ?? say("The video appears as it is made.") };
}

/** @param {import("../types.mjs").Plan} plan @returns {Words} */
function planWords(plan) {
  /** @type {[string, string][]} */
  const chunks = plan.chunks == null ? [] : [[say("chunks"), String(plan.chunks)]];
  /** @type {[string, string][]} */
  const decoding = plan.decode_bytes == null ? [] : [[say("decoding"), megabytes(plan.decode_bytes)]];
  const length = plan.seconds == null ? "" : ` (${duration(plan.seconds)})`;
  return {
    title: plan.fits ? say("Plan") : say("Plan: it does not fit"),
    text: plan.text,
    bad: !plan.fits,
    facts: [
      [say("frames"), `${plan.frames ?? say("until Stop")}${length}`],
      ...chunks,
      [say("KV cache"), megabytes(plan.kv_bytes)],
      ...decoding,
      [say("free"), megabytes(plan.free_bytes)],
    ],
  };
}

/** @param {Words} words */
function cardParts({ title, text, facts = [], bad = false }) {
  const rows = facts.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value)),
  );
  const heading = element("strong", { class: bad ? "lt-bad" : "" }, title);
  return [heading, element("p", {}, text), ...(rows.length ? [element("dl", {}, ...rows)] : [])];
}
