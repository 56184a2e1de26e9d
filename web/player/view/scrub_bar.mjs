// @ts-check
/** @import { Reel } from "./reel.mjs" */
/** @import { Take } from "../takes/take.mjs" */
import { element } from "./dom.mjs";
import { time } from "./format.mjs";
import { HoverPreview } from "./hover_preview.mjs";
import { translate } from "../words.mjs";

const HEIGHT = 22;
const [TRACK_TOP, TRACK_HEIGHT] = [10, 6];
const RECALLED_HEIGHT = 3;
const KNOB = 5; // radius in pixels, and the distance of the track from the edges
const TICK_SPACING = 4; // minimum pixels between two chunk boundaries

/** The bar under the picture: generated frames, chunk boundaries, recalled frames, prompt changes, position. */
export class ScrubBar {
  #dragging = false;

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    /** @type {HTMLCanvasElement} */
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.hover = new HoverPreview(reel);
    /** @type {HTMLElement} */
    this.element = element(
      "div",
      {
        class: "lt-scrub", role: "slider", tabindex: 0, "aria-label": translate("Position in the shot"),
        "data-capture-wheel": "true",
        pointerdown: (/** @type {PointerEvent} */ event) => this.#press(event),
        pointermove: (/** @type {PointerEvent} */ event) => this.#move(event),
        pointerup: () => (this.#dragging = false),
        pointercancel: () => (this.#dragging = false),
        pointerleave: () => this.hover.hide(),
      },
      this.canvas,
      this.hover.element,
    );
  }

  /** @param {PointerEvent} event */
  #press(event) {
    if (event.button !== 0 || this.reel.frames === 0) return;
    this.#dragging = true;
    this.element.setPointerCapture(event.pointerId);
    this.reel.seek(this.#frameAt(event));
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (this.reel.frames === 0) return;
    const frame = this.#frameAt(event);
    if (this.#dragging) this.reel.seek(frame);
    this.hover.show(frame, this.#fraction(event));
  }

  /** @param {PointerEvent} event */
  #fraction(event) {
    const { left, width } = this.element.getBoundingClientRect(); // includes the canvas zoom
    const inset = (KNOB * width) / this.element.clientWidth;
    return Math.max(0, Math.min(1, (event.clientX - left - inset) / (width - 2 * inset)));
  }

  /** @param {PointerEvent} event */
  #frameAt(event) {
    const frame = Math.floor(this.#fraction(event) * this.reel.length);
    return Math.min(frame, this.reel.frames - 1);
  }

  update() {
    const { take, frame, frames, fps } = this.reel;
    const at = frames ? translate("{at} of {end}, frame {frame}", { at: time(frame / fps), end: time(frames / fps), frame }) : translate("No frames");
    const values = { valuemin: 0, valuemax: Math.max(0, frames - 1), valuenow: frame, valuetext: at };
    for (const [name, value] of Object.entries(values)) {
      this.element.setAttribute(`aria-${name}`, String(value));
    }
    this.element.setAttribute("aria-disabled", String(frames === 0));
    this.element.dataset.recalled = (take?.recalledAt(frame) ?? []).map(([from, to]) => `${from}-${to - 1}`).join(" ");
    this.element.dataset.prompts = String(take?.info.prompt_changes.length ?? 0);
    if (this.element.clientWidth) this.#draw(take);
    this.hover.update();
  }

  /** @param {Take|null} take */
  #draw(take) {
    const width = this.element.clientWidth;
    const scale = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * scale), Math.round(HEIGHT * scale)];
    if (this.canvas.width !== w || this.canvas.height !== h) {
      Object.assign(this.canvas, { width: w, height: h });
    }
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, HEIGHT);
    const style = getComputedStyle(this.element);
    const color = (/** @type {string} */ name) => style.getPropertyValue(`--lt-${name}`).trim();
    const x = (/** @type {number} */ frame) =>
      KNOB + (frame / Math.max(1, this.reel.length)) * (width - 2 * KNOB);
    const bar = (/** @type {number} */ from, /** @type {number} */ to, /** @type {string} */ name) => {
      context.fillStyle = color(name);
      context.fillRect(x(from), TRACK_TOP, x(to) - x(from), TRACK_HEIGHT);
    };
    bar(0, this.reel.length, "track");
    bar(0, this.reel.frames, "generated");
    if (!take || !take.frames) return;
    bar(0, this.reel.frame + 1, "played");
    drawChunks(context, take, x, color);
    drawRecalled(context, take.recalledAt(this.reel.frame), x, color);
    drawPrompts(context, take, x, color);
    drawKnob(context, x(this.reel.frame + 0.5), color("fg"));
  }
}

/** Draw chunk boundaries and dropped chunks. @param {CanvasRenderingContext2D} context
 * @param {Take} take @param {(frame: number) => number} x @param {(name: string) => string} color */
function drawChunks(context, take, x, color) {
  let last = 0;
  context.fillStyle = color("gap"); // once: a long shot may have thousands of gaps, and reading a colour takes time
  for (const { first_frame, count, bytes } of take.chunks) {
    const left = x(first_frame);
    if (bytes === 0) context.fillRect(left, TRACK_TOP + 2, x(first_frame + count) - left, TRACK_HEIGHT - 4);
    if (left - last < TICK_SPACING) continue;
    context.clearRect(Math.round(left) - 0.5, TRACK_TOP, 1, TRACK_HEIGHT);
    last = left;
  }
}

/** Underline the past frames that the chunk at the playhead recalls.
 * @param {CanvasRenderingContext2D} context @param {[number, number][]} recalled
 * @param {(frame: number) => number} x @param {(name: string) => string} color */
function drawRecalled(context, recalled, x, color) {
  context.fillStyle = color("recalled");
  for (const [from, to] of recalled) {
    context.fillRect(x(from), TRACK_TOP + TRACK_HEIGHT + 1, Math.max(2, x(to) - x(from)), RECALLED_HEIGHT);
  }
}

/** Mark prompt changes: a triangle for the timeline's, a diamond for live edits.
 * @param {CanvasRenderingContext2D} context @param {Take} take
 * @param {(frame: number) => number} x @param {(name: string) => string} color */
function drawPrompts(context, take, x, color) {
  for (const { frame, edited } of take.info.prompt_changes.filter((each) => each.frame > 0)) {
    const [at, bottom] = [x(frame), TRACK_TOP - 1];
    context.fillStyle = color(edited ? "edit" : "prompt");
    context.beginPath();
    context.moveTo(at, bottom);
    if (edited) context.lineTo(at - 4, bottom - 4);
    context.lineTo(edited ? at : at - 4, bottom - 8);
    context.lineTo(at + 4, edited ? bottom - 4 : bottom - 8);
    context.fill();
    context.fillRect(at - 0.5, bottom, 1, TRACK_HEIGHT + 2);
  }
}

/** @param {CanvasRenderingContext2D} context @param {number} at @param {string} color */
function drawKnob(context, at, color) {
  context.fillStyle = color;
  context.beginPath();
  context.arc(at, TRACK_TOP + TRACK_HEIGHT / 2, KNOB, 0, 2 * Math.PI);
  context.fill();
}
