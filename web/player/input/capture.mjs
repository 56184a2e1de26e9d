// @ts-check
/** @import { Wish } from "../types.mjs" */
import { element } from "../view/dom.mjs";

const QUALITY = 0.9; // of the JPEGs that are sent

/** @typedef {"denied"|"missing"|"lost"|"insecure"} Fault  as in stream/incoming/inlet.py */

/** Ask the browser for a camera, or for a screen, window or tab; a fault says why there is none.
 * @param {Wish} wish @returns {Promise<MediaStream|Fault>} */
export async function openStream({ kind, width, height, fps }) {
  const devices = navigator.mediaDevices;
  if (!devices) return "insecure";
  const video = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: fps } };
  try {
    return kind === "webcam"
      ? await devices.getUserMedia({ video, audio: false })
      : await devices.getDisplayMedia({ video: { frameRate: video.frameRate }, audio: false });
  } catch (error) {
    const denied = ["NotAllowedError", "SecurityError", "AbortError"];
    return denied.includes(/** @type {Error} */ (error).name) ? "denied" : "missing";
  }
}

/** Sends the newest picture of a stream, one at a time, until the run wants no more. */
export class Capture {
  sent = 0;
  /** The pad of the player that shows the capture. @type {import("./input_pad.mjs").InputPad|null} */
  keeper = null;
  #worker = new Worker(new URL("./picture_worker.mjs", import.meta.url), { type: "module" });
  #live = true;
  #sending = false;
  /** Takes the JPEG that the worker writes; null if there will be none. @type {(jpeg: Blob|null) => void} */
  #written = () => {};
  /** The newest picture on its way. @type {Promise<boolean>} */
  #underWay = Promise.resolve(true);

  /**
   * @param {MediaStream} stream @param {Wish} wish
   * @param {(news: Blob|Fault) => Promise<boolean>} give returns whether the run wants more
   * @param {(fault: Fault|null) => void} onEnd
   */
  constructor(stream, wish, give, onEnd) {
    this.stream = stream;
    this.wish = wish;
    this.give = give;
    this.onEnd = onEnd;
    /** @type {HTMLVideoElement} */
    this.video = element("video", { class: "lt-input-picture" });
    this.video.muted = this.video.playsInline = true;
    this.video.srcObject = stream;
    void this.video.play().catch(() => this.stop("lost"));
    for (const track of stream.getTracks()) track.addEventListener("ended", () => this.stop("lost"));
    this.#worker.addEventListener("message", ({ data }) => (data === "due" ? void this.#send() : this.#written(data)));
    this.#worker.addEventListener("error", ({ message }) => {
      console.warn("Longtake: the browser's pictures cannot be written.", message);
      this.stop("lost");
    });
    this.#worker.postMessage({ everyMs: 1000 / wish.fps });
  }

  /** Let the camera go; a fault is passed on to the run. @param {Fault|null} [fault] */
  stop(fault = null) {
    if (!this.#live) return;
    this.#live = false;
    this.#worker.terminate();
    this.#written(null);
    for (const track of this.stream.getTracks()) track.stop();
    this.video.srcObject = null;
    const give = () => (fault ? this.give(fault) : false);
    void this.#underWay.then(give, give).catch(() => false); // a picture that came later would hide the fault
    this.onEnd(fault);
  }

  /** Send the picture of this moment, unless the one before is still on its way. */
  async #send() {
    if (this.#sending || this.video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
    this.#sending = true;
    try {
      const picture = await this.#picture();
      if (!this.#live || !picture) return;
      this.#underWay = this.give(picture);
      const wanted = await this.#underWay;
      this.sent += 1;
      if (!wanted) this.stop();
    } catch {
      this.stop("lost"); // the server does not answer
    } finally {
      this.#sending = false;
    }
  }

  /** The picture as a JPEG that just covers the shot; null after the end. @returns {Promise<Blob|null>} */
  async #picture() {
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, Math.max(this.wish.width / videoWidth, this.wish.height / videoHeight));
    const [width, height] = [videoWidth, videoHeight].map((side) => Math.max(1, Math.round(side * scale)));
    const bitmap = await createImageBitmap(this.video);
    if (!this.#live) return null;
    return new Promise((resolve) => {
      this.#written = resolve;
      this.#worker.postMessage({ bitmap, width, height, quality: QUALITY }, [bitmap]);
    });
  }
}
