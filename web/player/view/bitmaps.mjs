// @ts-check

/** Decoded frames of one player: few, the least recently used closed. */
export class Bitmaps {
  /** @type {Map<number, ImageBitmap>} oldest use first */
  #ready = new Map();
  /** @type {Set<number>} */
  #decoding = new Set();
  #epoch = 0;

  /**
   * @param {number} most bitmaps alive at once
   * @param {(frame: number) => Uint8Array<ArrayBuffer>|null} jpegOf
   * @param {(frame: number) => void} onReady
   */
  constructor(most, jpegOf, onReady) {
    this.most = most;
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

  /** The newest decoded frame in (after, upTo], or -1. @param {number} after @param {number} upTo */
  newest(after, upTo) {
    let found = -1;
    for (const frame of this.#ready.keys()) {
      if (frame > after && frame <= upTo && frame > found) found = frame;
    }
    return found;
  }

  /** Decode these frames if their bytes are here. @param {number[]} frames */
  want(frames) {
    for (const frame of frames) {
      if (!this.#ready.has(frame) && !this.#decoding.has(frame)) this.#decode(frame);
    }
  }

  /** Close every bitmap; what is being decoded is closed when it comes. */
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
      if (this.#ready.size <= this.most) break;
      old.close();
      this.#ready.delete(oldest);
    }
  }
}
