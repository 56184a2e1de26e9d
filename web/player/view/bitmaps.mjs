// @ts-check

/** The decoded frames of one player. Above a maximum, closes the least recently used. */
export class Bitmaps {
  /** @type {Map<number, {bitmap: ImageBitmap, jpeg: Uint8Array}>} oldest use first */
  #ready = new Map();
  /** @type {Set<number>} */
  #decoding = new Set();
  /** Bytes that are no picture: others may come for the same frame. @type {WeakSet<Uint8Array>} */
  #broken = new WeakSet();
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
    const found = this.#ready.get(frame);
    if (found) {
      this.#ready.delete(frame);
      this.#ready.set(frame, found);
    }
    return found?.bitmap;
  }

  /** Return the newest decoded frame in (after, upTo], or -1. @param {number} after @param {number} upTo */
  newest(after, upTo) {
    let found = -1;
    for (const frame of this.#ready.keys()) {
      if (frame > after && frame <= upTo && frame > found) found = frame;
    }
    return found;
  }

  /** Decode the given frames whose bytes are on this page, again where the bytes are others now.
   * @param {number[]} frames */
  request(frames) {
    for (const frame of frames) {
      if (this.#decoding.has(frame)) continue;
      const jpeg = this.jpegOf(frame);
      if (jpeg && jpeg !== this.#ready.get(frame)?.jpeg && !this.#broken.has(jpeg)) this.#decode(frame, jpeg);
    }
  }

  /** Close every bitmap, and bitmaps in decoding as soon as they are ready. */
  clear() {
    this.#epoch++;
    this.#decoding.clear();
    for (const { bitmap } of this.#ready.values()) bitmap.close();
    this.#ready.clear();
  }

  /** @param {number} frame @param {Uint8Array<ArrayBuffer>} jpeg */
  async #decode(frame, jpeg) {
    const epoch = this.#epoch;
    this.#decoding.add(frame);
    try {
      const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
      if (epoch !== this.#epoch) return bitmap.close();
      this.#keep(frame, bitmap, jpeg);
    } catch (error) {
      this.#broken.add(jpeg);
      console.warn(`Longtake: frame ${frame} cannot be decoded.`, error);
    } finally {
      if (epoch === this.#epoch) this.#decoding.delete(frame);
    }
    if (epoch === this.#epoch) this.onReady(frame);
  }

  /** @param {number} frame @param {ImageBitmap} bitmap @param {Uint8Array} jpeg */
  #keep(frame, bitmap, jpeg) {
    this.#ready.get(frame)?.bitmap.close();
    this.#ready.set(frame, { bitmap, jpeg });
    for (const [oldest, old] of this.#ready) {
      if (this.#ready.size <= this.max) break;
      old.bitmap.close();
      this.#ready.delete(oldest);
    }
  }
}
