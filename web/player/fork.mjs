// @ts-check
/** @import { Reel } from "./reel.mjs" */
import { element, iconButton } from "./dom.mjs";
import { time } from "./format.mjs";

/** Forks the shot at the playhead: the page around the player puts the node in. */
export class ForkButton {
  #take = "";

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    this.button = iconButton("fork", "Fork the shot here", () => this.#fork());
    /** @type {HTMLElement} */
    this.said = element("p", { class: "lt-note", role: "status", hidden: true });
  }

  update() {
    const { place, take, frames, frame, fps } = this.reel;
    this.button.hidden = place.fork === null;
    this.button.disabled = frames === 0;
    this.button.title = `Fork the shot at ${time(frame / fps)}: another prompt, seed or guidance from here on`;
    if (this.#take === (take?.token ?? "")) return;
    this.#take = take?.token ?? "";
    this.#say("");
  }

  #fork() {
    const { session, place, frame, fps } = this.reel;
    if (!session || !place.fork) return;
    const seconds = Math.round((100 * frame) / fps) / 100;
    const done = `Fork Rollout is wired in at ${time(seconds)}: type a new prompt there, then press Run.`;
    this.#say(place.fork(session, seconds) ?? done);
    this.reel.onChange();
  }

  /** @param {string} words */
  #say(words) {
    this.said.hidden = words === "";
    this.said.textContent = words;
  }
}
