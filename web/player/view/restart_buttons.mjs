// @ts-check
/** @import { Reel } from "./reel.mjs" */
import { element, textButton } from "./dom.mjs";
import { time } from "./format.mjs";
import { translate } from "../words.mjs";

const RESUMABLE = ["interrupted", "error", "stopped"];

/** Resumes a shot that is not complete, or starts another; the page around the player runs it. */
export class RestartButtons {
  /** @param {Reel} reel @param {(text: string) => void} onError */
  constructor(reel, onError) {
    this.reel = reel;
    this.onError = onError;
    this.resume = textButton(translate("Resume"), () => this.run(false), "lt-primary");
    this.afresh = textButton(translate("Start afresh"), () => this.run(true));
    this.afresh.title = translate("Run with a new seed. The earlier shot stays on disk: its seed brings it back.");
    /** @type {HTMLElement} */
    this.element = element("div", { class: "lt-restart" }, this.resume, this.afresh);
  }

  update() {
    const { take, place } = this.reel;
    const incomplete = !!take && (take.known
      ? RESUMABLE.includes(take.info.state) && this.reel.resumable : take.info.state !== "done");
    this.resume.hidden = !incomplete;
    const at = this.reel.resumeAt;
    this.resume.textContent = incomplete && take.known && at !== null
      ? translate("Resume at {at}", { at: time(at) }) : translate("Resume");
    this.resume.disabled = this.afresh.disabled = !take?.connected;
    this.element.hidden = place.restart == null || !(incomplete || take?.resuming != null);
  }

  /** @param {boolean} afresh */
  run(afresh) {
    const { session, place } = this.reel;
    if (session && place.restart) this.onError(place.restart(session, afresh) ?? "");
  }
}
