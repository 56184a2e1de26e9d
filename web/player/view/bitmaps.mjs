// @ts-check

/** The decoded frames of one player. Above a maximum, closes the least recently used. */
export class Bitmaps {
  /** @type {Map<number, ImageBitmap>} oldest use first */
  #ready = new Map();
  /** @type {Set<number>} */
  #decoding = new Set();
  #epoch = 0;

  /**
   * @param {number} max number of open bitmaps
   * @param {(frame: number) => Uint8Array<ArrayBuffer>|null} jpegOf
   * @param {(frame: number) => void} onReady
   */
  constructor(max, jpegOf, onReady) {
    this.max = max;
    this.jpegOf = jpegOf;
    this.onReady = onReady;
  }

  get count() {
    return this.#ready.size;
  }

  /** @param {number} frame */
  get(frame) {
    const bitmap = this.#ready.get(frame);
    if (bitmap) {
      this.#ready.delete(frame);
      this.#ready.set(frame, bitmap);
    }
    return bitmap;
  }

  /** Return the newest decoded frame in (after, upTo], or -1. @param {number} after @param {number} upTo */
  newest(after, upTo) {
    let found = -1;
    for (const frame of this.#ready.keys()) {
      if (frame > after && frame <= upTo && frame > found) found = frame;
    }
    return found;
  }

  /** Decode the given frames whose bytes are on this page. @param {number[]} frames */
  request(frames) {
    for (const frame of frames) {
      if (!this.#ready.has(frame) && !this.#decoding.has(frame)) this.#decode(frame);
    }
  }

  /** Close every bitmap, and bitmaps in decoding as soon as they are ready. */
  clear() {
    this.#epoch++;
    this.#decoding.clear();
    for (const bitmap of this.#ready.values()) bitmap.close();
    this.#ready.clear();
  }

  /** @param {number} frame */
  async #decode(frame) {
    const jpeg = this.jpegOf(frame);
    if (!jpeg) return;
    const epoch = this.#epoch;
    this.#decoding.add(frame);
    try {
      const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
      if (epoch !== this.#epoch) return bitmap.close();
      this.#keep(frame, bitmap);
    } catch (error) {
      console.warn(`Longtake: frame ${frame} cannot be decoded.`, error);
    } finally {
      if (epoch === this.#epoch) this.#decoding.delete(frame);
    }
    if (epoch === this.#epoch) this.onReady(frame);
  }

  /** @param {number} frame @param {ImageBitmap} bitmap */
  #keep(frame, bitmap) {
    this.#ready.set(frame, bitmap);
    for (const [oldest, old] of this.#ready) {
      if (this.#ready.size <= this.max) break;
      old.close();
      this.#ready.delete(oldest);
    }
  }
}
