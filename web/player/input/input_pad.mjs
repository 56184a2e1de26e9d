// @ts-check
/** @import { Reel } from "../view/reel.mjs" */
/** @import { Session, Wish } from "../types.mjs" */
import { element, textButton } from "../view/dom.mjs";
import { translate } from "../words.mjs";
import { Capture, openStream } from "./capture.mjs";
import { HAND_OVER_MS } from "../takes/hand_over.mjs";

/** A button that gives a run the camera or the screen of this browser, only while the run wants it. */
export class InputPad {
  /** @type {Session|null} the take that gets the pictures */
  #session = null;
  #asking = false;
  #disposed = false;
  #fault = "";
  #sent = 0;

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    this.button = textButton("", () => void this.toggle(), "lt-primary");
    this.status = element("p", { class: "lt-note", role: "status" });
    /** @type {HTMLElement} */
    this.element = element("div", { class: "lt-input", role: "group", "aria-label": translate("Live input") },
      element("div", { class: "lt-run" }, this.button), this.status);
  }

  update() {
    const { take, session } = this.reel;
    const wish = take?.growing ? take.info.wish ?? null : null; // a short break ends nothing: each picture has its own patience
    if (this.#capture && (!wish || session !== this.#session)) this.#capture.stop();
    if (wish && session?.capture) [this.#session, session.capture.keeper] = [session, this];
    this.element.dataset.sent = String(this.#sent + (this.#capture?.sent ?? 0));
    this.element.hidden = !wish;
    if (!wish) return;
    const on = this.#capture !== null;
    this.button.disabled = this.#asking || (!on && !take?.connected);
    const [start, stop] = wish.kind === "webcam"
      ? [translate("Use the camera"), translate("Stop the camera")]
      : [translate("Share a screen or tab"), translate("Stop sharing")];
    this.#write(this.button, on ? stop : start);
    const text = on ? translate("The run gets the newest pictures of this browser.") : translate("The run waits for pictures of this browser.");
    this.#write(this.status, this.#fault || text);
  }

  async toggle() {
    if (this.#capture) return this.#capture.stop("lost");
    const { take, session } = this.reel;
    const wish = take?.info.wish;
    if (!wish || !session || this.#asking) return;
    this.#asking = true;
    this.#fault = "";
    this.reel.onChange();
    const stream = await openStream(wish);
    this.#asking = false;
    if (typeof stream === "string") {
      this.#fault = sentence(stream, wish);
      void session.transport.give(stream).catch(() => false);
    } else this.#start(stream, wish, session);
    this.reel.onChange();
  }

  /** The capture that this player shows and stops. @returns {Capture|null} */
  get #capture() {
    const { capture } = this.#session ?? {};
    return capture?.keeper === this ? capture : null;
  }

  /** @param {MediaStream} stream @param {Wish} wish @param {Session} session */
  #start(stream, wish, session) {
    session.capture?.stop(); // another player's
    const capture = new Capture(stream, wish, (news) => session.transport.give(news), (fault) => {
      session.capture = undefined;
      capture.keeper?.end(capture, fault);
    });
    [this.#session, session.capture, capture.keeper] = [session, capture, this];
    if (this.#disposed) this.#leave(capture); // while the browser asked its user
  }

  /** Tell how a capture ended. @param {Capture} capture @param {import("./capture.mjs").Fault|null} fault */
  end({ sent, wish }, fault) {
    this.#sent += sent;
    this.#fault = fault ? sentence(fault, wish) : "";
    this.reel.onChange();
  }

  dispose() {
    this.#disposed = true;
    if (this.#capture) this.#leave(this.#capture);
  }

  /** Leave the camera on for the take's next player, if one comes: the host replaces the players at every undo.
   * @param {Capture} capture */
  #leave(capture) {
    capture.keeper = null;
    setTimeout(() => capture.keeper ?? capture.stop(), HAND_OVER_MS);
  }

  /** @param {HTMLElement} place @param {string} text */
  #write(place, text) {
    if (place.textContent !== text) place.textContent = text;
  }
}

/** Say why there are no pictures. @param {import("./capture.mjs").Fault} fault @param {Wish} wish */
function sentence(fault, { kind }) {
  if (fault === "insecure") return translate("Browsers give pictures to secure pages only; open this page by https or as localhost.");
  if (fault === "denied") return translate("The browser did not allow it; allow it beside this page's address, then press the button again.");
  if (fault === "missing") return translate("The browser has no camera, or another program uses it.");
  return kind === "webcam" ? translate("The camera was disconnected; press the button to use it again.")
    : translate("Sharing has ended; press the button to share again.");
}
