// @ts-check
/** @import { Reel } from "./reel.mjs" */
/** @import { Take } from "../takes/take.mjs" */
/** @import { Place } from "../types.mjs" */
import { element } from "./dom.mjs";
import { duration, megabytes, time } from "./format.mjs";
import { translate } from "../words.mjs";

/** Text over the picture: what to do while there is no picture, and how the run ended. */
export class Overlay {
  #rendered = "";

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
    const text = cardText(this.reel);
    const banner = text ? null : this.#banner(take);
    const earlier = !take && this.reel.screen.video ? translate("From an earlier run") : "";
    const state = take && take.frames > 0 ? stateText(take, this.reel) : earlier;
    const content = JSON.stringify([text, banner, state]);
    if (content === this.#rendered) return;
    this.#rendered = content;
    this.card.hidden = text === null;
    if (text) this.card.replaceChildren(...cardParts(text));
    this.banner.hidden = banner === null;
    this.banner.textContent = banner ?? "";
    this.state.hidden = state === "";
    this.state.textContent = state;
  }

  /** @param {Take|null} take */
  #banner(take) {
    const { failure } = this.reel;
    if (failure) return translate("The run failed: {reason}", { reason: failure });
    if (!take) return null;
    const { state, message } = take.info;
    if (!take.connected) return take.growing ? lostText(take, this.reel.place) : translate("No connection to the server.");
    if (this.reel.inGap) return translate("This part is no longer on the server.");
    if (state === "error") return message ?? translate("The run failed. See the console for the reason.");
    if (state === "interrupted") return resumeText(this.reel);
    return null;
  }
}

/** @param {Take} take @param {Place} place */
function lostText(take, place) {
  if (take.connection === "closed") return place.lostHint();
  return translate("The server does not answer. This page keeps asking.");
}

/** @param {Reel} reel */
function resumeText({ session, resumeAt: at }) {
  if (session?.workflowChanged) return translate("Cancelled. Press Run to resume.");
  if (at === null) return translate("Cancelled. All finished frames are kept.");
  return translate("Cancelled. Press Run to resume at {at}.", { at: time(at) });
}

/** Return what a cancel before the first frame leaves. @param {Reel} reel */
function cancelText(reel) {
  return reel.resumable ? resumeText(reel) : translate("The run generated no frames.");
}

/** @param {number} at */
function resumingText(at) {
  return translate("Resuming at {at}", { at: time(at) });
}

/** @param {Take} take @param {Reel} reel */
function stateText(take, { head }) {
  if (take.info.state === "paused") return translate("Run paused");
  if (take.info.state === "stopping") return translate("Stopping");
  if (!take.live) return "";
  if (take.resuming !== null) return resumingText(take.resuming);
  return head.following ? "" : translate("Still generating");
}

/** @typedef {{title: string, text: string, facts?: [string, string][], bad?: boolean}} CardText */

/** Return the card's text while there is no picture. @param {Reel} reel @returns {CardText|null} */
function cardText(reel) {
  const { take, place, screen, failure } = reel;
  if (!take?.frames && !screen.video && failure) return { title: translate("The run failed"), text: failure, bad: true };
  if (!take && screen.video) return null;
  if (!take) return { title: translate("No video yet"), text: place.emptyHint() };
  if (take.frames > 0) return null;
  if (!take.connected && take.growing) return { title: translate("No connection"), text: lostText(take, place), bad: true };
  const { state, message, plan } = take.info;
  if (state === "error") return { title: translate("The run failed"), text: message ?? "", bad: true };
  if (state === "interrupted") return { title: translate("Cancelled"), text: cancelText(reel) };
  if (plan && !take.growing) return planText(plan);
  if (!take.growing) return { title: translate("No frames"), text: message ?? translate("The run generated no frames.") };
  const { resuming } = take;
  const title = resuming === null ? translate("Waiting for the first chunk") : resumingText(resuming);
  if (plan) return { ...planText(plan), title };
  const hint = resuming === null ? translate("The video appears while it is generated.") : translate("Earlier frames come from disk.");
  return { title, text: message ?? hint };
}

/** @param {string} size @param {string|null|undefined} device  where it is another one @returns {string} */
const onDevice = (size, device) => device == null ? size : `${size} (${device})`;

/** @param {import("../types.mjs").Plan} plan @returns {CardText} */
function planText(plan) {
  /** @type {[string, string][]} */
  const chunks = plan.chunks == null ? [] : [[translate("chunks"), String(plan.chunks)]];
  /** @type {[string, string][]} */
  const decoding = plan.decode_bytes == null ? [] : [[translate("decoding"), onDevice(megabytes(plan.decode_bytes), plan.decode_device)]];
  const length = plan.seconds == null ? "" : ` (${duration(plan.seconds)})`;
  return {
    title: plan.fits ? translate("Plan") : translate("Plan: does not fit"),
    text: plan.text,
    bad: !plan.fits,
    facts: [
      [translate("frames"), `${plan.frames ?? translate("until Stop")}${length}`],
      ...chunks,
      [translate("KV cache"), megabytes(plan.kv_bytes)],
      ...decoding,
      [translate("free"), megabytes(plan.free_bytes)],
    ],
  };
}

/** @param {CardText} text */
function cardParts({ title, text, facts = [], bad = false }) {
  const rows = facts.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value)),
  );
  const heading = element("strong", { class: bad ? "lt-bad" : "" }, title);
  return [heading, element("p", {}, text), ...(rows.length ? [element("dl", {}, ...rows)] : [])];
}
