// @ts-check
/** @import { ChunkInfo } from "../types.mjs" */
/** @import { Take } from "./take.mjs" */
/** @import { Transport } from "./transport.mjs" */
/** @import { ByteStore } from "./byte_store.mjs" */

const RETRY_MS = 1500;
const SHARE = 4; // of the store that one take may claim for what is near its playheads

/**
 * Brings a take's chunks into the store, one request at a time: first those near somebody's
 * playhead, then, while nothing has to be dropped for them, the others, newest first.
 */
export class Fetcher {
  /** @type {Map<object, number[]>} what each player wants next, as sequence numbers */
  #wants = new Map();
  #busy = false;
  #retry = 0;

  /** @param {Take} take @param {Transport} transport @param {ByteStore} store */
  constructor(take, transport, store) {
    this.take = take;
    this.transport = transport;
    this.store = store;
  }

  /** @param {object} owner @param {number[]} seqs the most urgent first */
  want(owner, seqs) {
    this.#wants.set(owner, seqs);
    this.#go();
  }

  /** @param {object} owner */
  release(owner) {
    this.#wants.delete(owner);
    if (this.#wants.size === 0) clearTimeout(this.#retry);
  }

  /** @param {number} seq */
  get(seq) {
    return this.store.get(this.#key(seq));
  }

  /** @param {number} seq */
  has(seq) {
    return this.store.has(this.#key(seq));
  }

  /** @param {number} seq */
  #key(seq) {
    return `${this.take.token}/${seq}`;
  }

  #next() {
    if (this.#wants.size === 0) return null;
    const lacks = (/** @type {ChunkInfo} */ { seq, bytes }) => bytes > 0 && !this.has(seq);
    const urgent = this.#near().find(lacks);
    if (urgent) return urgent.seq;
    const more = (/** @type {ChunkInfo} */ chunk) => this.store.fits(chunk.bytes) && lacks(chunk);
    return this.take.chunks.findLast(more)?.seq ?? null;
  }

  /** What the players want, no more than a share of the store: or it would drop what it fetches. */
  #near() {
    const near = [...this.#wants.values()].flat().flatMap((seq) => this.take.chunk(seq) ?? []);
    let room = this.store.capBytes / SHARE;
    const enough = near.findIndex(({ bytes }) => {
      room -= bytes;
      return room < 0;
    });
    return enough < 0 ? near : near.slice(0, Math.max(1, enough));
  }

  async #go() {
    if (this.#busy) return;
    this.#busy = true;
    clearTimeout(this.#retry);
    try {
      for (let seq = this.#next(); seq !== null; seq = this.#next()) await this.#fetch(seq);
    } catch (error) {
      console.warn("Longtake: a chunk did not arrive and is asked for again.", error);
      if (this.#wants.size) this.#retry = window.setTimeout(() => this.#go(), RETRY_MS);
    } finally {
      this.#busy = false;
    }
  }

  /** @param {number} seq */
  async #fetch(seq) {
    const chunk = await this.transport.chunk(seq);
    if (!chunk) return this.take.drop(seq);
    this.store.put(this.#key(seq), chunk);
    this.take.tell();
  }
}
