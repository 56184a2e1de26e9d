// @ts-check
/** @import { Reel } from "./reel.mjs" */
import { Bitmaps } from "./bitmaps.mjs";
import { element } from "./dom.mjs";
import { time } from "./format.mjs";
import { translate } from "../words.mjs";

const BITMAPS = 4;
const [SIDE, LEAST, MARGIN] = [152, 20, 2]; // pixels: the picture's longest side, its least height, the space at the edges

/** The time, the prompt and the picture under the pointer on the scrub bar. */
export class HoverPreview {
  #frame = -1;

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    this.bitmaps = new Bitmaps(BITMAPS, (frame) => reel.jpeg(frame), () => this.#draw());
    /** @type {HTMLCanvasElement} */
    this.canvas = element("canvas");
    this.text = element("div", { class: "lt-hover-text" });
    this.recalled = element("div", { class: "lt-hover-text lt-hover-recalled" });
    this.prompt = element("div", { class: "lt-hover-prompt" });
    /** @type {HTMLElement} */
    this.element = element(
      "div", { class: "lt-hover", hidden: true, "aria-hidden": "true" },
      this.canvas, this.text, this.recalled, this.prompt,
    );
  }

  /** @param {number} frame @param {number} fraction position along the bar, 0 to 1 */
  show(frame, fraction) {
    const { take, fps } = this.reel;
    if (!take) return;
    this.element.hidden = false;
    const room = (this.element.parentElement?.clientWidth ?? 0) - this.element.offsetWidth;
    const left = fraction * (room + this.element.offsetWidth) - this.element.offsetWidth / 2;
    this.element.style.left = `${Math.max(MARGIN, Math.min(left, room - MARGIN))}px`;
    if (frame === this.#frame) return;
    this.#frame = frame;
    const chunk = take.chunks[take.indexAt(frame)];
    const { seq = 0, bytes = 0 } = chunk ?? {};
    const which = bytes ? translate("chunk {seq}", { seq }) : translate("chunk {seq} (dropped)", { seq });
    const parts = [time(frame / fps), translate("frame {frame}", { frame }), ...(chunk ? [which] : [])];
    this.text.textContent = parts.join(" · ");
    const spans = take.recalledAt(frame).map(([from, to]) => `${time(from / fps)}-${time(to / fps)}`);
    this.recalled.textContent = spans.length ? translate("recalls {spans}", { spans: spans.join(", ") }) : "";
    this.prompt.textContent = take.promptAt(frame)?.text ?? "";
    this.update();
    this.#draw();
  }

  /** Fetch the picture's bytes if they are not on this page, and decode them when they are. */
  update() {
    if (this.element.hidden) return;
    this.reel.fetch(this, this.#frame, 1);
    this.bitmaps.request([this.#frame]);
  }

  hide() {
    this.element.hidden = true;
    this.#frame = -1;
    this.reel.release(this);
    this.bitmaps.clear();
  }

  #draw() {
    const bitmap = this.bitmaps.get(this.#frame);
    this.canvas.hidden = true; // while the room beside the text is measured
    const height = Math.min(SIDE, this.#roomAbove() - this.element.offsetHeight);
    this.canvas.hidden = !bitmap || height < LEAST;
    if (!bitmap || this.canvas.hidden) return;
    const scale = Math.min(SIDE / bitmap.width, height / bitmap.height);
    const [w, h] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
    this.canvas.getContext("2d")?.drawImage(bitmap, 0, 0, w, h);
  }

  /** The pixels between the bar and the upper edge of the player, which cuts off what is above. */
  #roomAbove() {
    const bar = this.element.parentElement;
    const player = bar?.closest("[data-longtake-player]");
    if (!bar?.clientWidth || !player) return 0;
    const { top, width } = bar.getBoundingClientRect(); // includes the canvas zoom
    return ((top - player.getBoundingClientRect().top) * bar.clientWidth) / width;
  }
}
