// @ts-check
/** @import { PackedChunk } from "./packed_chunk.mjs" */

/** The compressed chunks of all takes on this page. Above a cap, drops the least recently used. */
export class ByteStore {
  /** @type {Map<string, PackedChunk>} oldest use first */
  #chunks = new Map();
  bytes = 0;

  /** @param {number} capBytes */
  constructor(capBytes) {
    this.capBytes = capBytes;
  }

  /** @param {string} key @returns {PackedChunk|undefined} */
  get(key) {
    const chunk = this.#chunks.get(key);
    if (chunk) {
      this.#chunks.delete(key);
      this.#chunks.set(key, chunk);
    }
    return chunk;
  }

  /** @param {string} key */
  has(key) {
    return this.#chunks.has(key);
  }

  /** Return whether `bytes` more fit without dropping a chunk. @param {number} bytes */
  fits(bytes) {
    return this.bytes + bytes <= this.capBytes;
  }

  /** @param {string} key @param {PackedChunk} chunk */
  put(key, chunk) {
    this.#delete(key);
    this.#chunks.set(key, chunk);
    this.bytes += chunk.bytes;
    for (const oldest of this.#chunks.keys()) {
      if (this.bytes <= this.capBytes || oldest === key) break;
      this.#delete(oldest);
    }
  }

  /** @param {string} key */
  #delete(key) {
    this.bytes -= this.#chunks.get(key)?.bytes ?? 0;
    this.#chunks.delete(key);
  }
}
