// @ts-check
/** @import { Player } from "./player.mjs" */

const LEAST_HEIGHT = 220; // pixels of the picture

/** Asks the page for a higher player where a panel that was opened leaves too little of the picture. */
export class PictureRoom {
  #opened = 0;
  #take = "";

  /** @param {Player} player @param {HTMLElement} stage around the picture */
  constructor(player, stage) {
    this.player = player;
    this.stage = stage;
  }

  /** Call this after the other views. The user may make the player lower again: only more parts ask anew. A player of
   * a collapsed node, or of one outside the window, has no size: it asks when it has one again. */
  update() {
    if (this.stage.clientHeight === 0) return;
    const { runControls, drivePad, reel } = this.player;
    const token = reel.take?.token ?? "";
    const wheel = drivePad.driver.on ? [drivePad.touch.element, drivePad.status, drivePad.facts, drivePad.lines.keep] : [];
    const { form, keys } = runControls;
    const parts = [form, keys.editor, keys.list, ...wheel].filter((part) => !part.hidden);
    const opened = parts.length + (reel.take?.info.edits.length ?? 0);
    const more = opened > this.#opened && token === this.#take;
    [this.#opened, this.#take] = [opened, token];
    if (!more || this.player.isFullscreen()) return;
    const missing = LEAST_HEIGHT - this.stage.clientHeight + hiddenIn(runControls.element) + hiddenIn(this.player.element);
    if (missing > 0) reel.place.makeRoom?.(missing);
  }
}

/** Return the height that an element lacks for its content. @param {HTMLElement} element */
function hiddenIn(element) {
  return element.scrollHeight - element.clientHeight;
}
