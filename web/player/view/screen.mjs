// @ts-check
/** @import { SavedFile } from "../types.mjs" */
import { element } from "./dom.mjs";
import { translate } from "../words.mjs";

/** The canvas for frames; a saved video can replace it. */
export class Screen {
  /** The frame on the canvas; -1 before the first frame. */
  shown = -1;

  constructor() {
    /** @type {HTMLCanvasElement} */
    this.canvas = element("canvas", { class: "lt-canvas", role: "img", "aria-label": translate("Video") });
    /** @type {HTMLVideoElement|null} */
    this.video = null;
    /** @type {HTMLElement} */
    this.element = element("div", { class: "lt-screen" }, this.canvas);
  }

  /**
   * Draw a frame at the size of the take; the picture itself may have half of that size.
   * @param {number} frame @param {ImageBitmap} bitmap @param {number} width @param {number} height
   */
  draw(frame, bitmap, width, height) {
    const [w, h] = [width || bitmap.width, height || bitmap.height];
    if (this.canvas.width !== w || this.canvas.height !== h) {
      Object.assign(this.canvas, { width: w, height: h });
    }
    this.canvas.getContext("2d")?.drawImage(bitmap, 0, 0, w, h);
    this.shown = frame;
  }

  clear() {
    this.shown = -1;
    this.canvas.width = this.canvas.width; // setting it wipes the canvas
    this.closeVideo();
  }

  /** Play a saved video, or show its first picture. @param {string} url @param {SavedFile} file
   * @param {{playing?: boolean, onGone?: () => void}} [options] `onGone`: the file does not exist */
  openVideo(url, file, { playing = true, onGone = () => {} } = {}) {
    this.closeVideo();
    const name = translate("Saved video {file}", { file: file.filename });
    const video = element("video", { class: "lt-video", controls: true, "aria-label": name });
    video.src = url;
    video.addEventListener("error", () => this.video === video && onGone());
    this.element.append(video);
    this.video = video;
    if (playing) video.play().catch(() => undefined); // a browser may require a click first; the video has controls
  }

  closeVideo() {
    if (!this.video) return;
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load(); // closes the connection
    this.video.remove();
    this.video = null;
  }

  /** Return the frame on the canvas as a PNG. @returns {Promise<Blob>} */
  async png() {
    const blob = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
    if (!blob) throw new Error("The browser could not make a PNG of this frame.");
    return blob;
  }

  /** Offer the frame on the canvas for download. @param {string} name */
  async save(name) {
    const url = URL.createObjectURL(await this.png());
    element("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000); // the download has started by then
  }
}
