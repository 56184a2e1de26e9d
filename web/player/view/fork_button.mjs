// @ts-check
/** @import { Reel } from "./reel.mjs" */
import { element, iconButton } from "./dom.mjs";
import { time } from "./format.mjs";
import { translate } from "../words.mjs";

/** Forks the shot at the playhead; the page around the player inserts the node. */
export class ForkButton {
  #take = "";

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    this.button = iconButton("fork", translate("Fork the shot here"), () => this.#fork());
    /** @type {HTMLElement} */
    this.note = element("p", { class: "lt-note", role: "status", hidden: true });
  }

  update() {
    const { place, take, frames, frame, fps } = this.reel;
    this.button.hidden = place.fork === null;
    this.button.disabled = frames === 0;
    this.button.title = translate("Fork the shot at {at}: another prompt, seed or guidance from here on", { at: time(frame / fps) });
    if (this.#take === (take?.token ?? "")) return;
    this.#take = take?.token ?? "";
    this.#showNote("");
  }

  #fork() {
    const { session, place, frame, fps } = this.reel;
    if (!session || !place.fork) return;
    const seconds = Math.round((100 * frame) / fps) / 100;
    const done = translate("The fork was added at {at}. Type a new prompt there, then press Run.", { at: time(seconds) });
    this.#showNote(place.fork(session, seconds) ?? done);
    this.reel.onChange();
  }

  /** @param {string} text */
  #showNote(text) {
    this.note.hidden = text === "";
    this.note.textContent = text;
  }
}
