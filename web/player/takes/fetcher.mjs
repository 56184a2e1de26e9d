// @ts-check
/** @import { ChunkInfo } from "../types.mjs" */
/** @import { Take } from "./take.mjs" */
/** @import { Transport } from "./transport.mjs" */
/** @import { ByteStore } from "./byte_store.mjs" */

const RETRY_MS = 1500;
const SHARES = 4; // one take may fill 1 / SHARES of the store with chunks near its playheads

/**
 * Fetches a take's chunks into the store, one request at a time. Chunks near a playhead come first.
 * The others follow, newest first, while they fit without dropping a chunk.
 */
export class Fetcher {
  /** The chunks that each player needs next, as sequence numbers. @type {Map<object, number[]>} */
  #requests = new Map();
  #busy = false;
  #retry = 0; // the timer after a failure: a playing player requests 60 times a second

  /** @param {Take} take @param {Transport} transport @param {ByteStore} store */
  constructor(take, transport, store) {
    this.take = take;
    this.transport = transport;
    this.store = store;
  }

  /** @param {object} owner @param {number[]} seqs most urgent first */
  request(owner, seqs) {
    this.#requests.set(owner, seqs);
    this.#go();
  }

  /** @param {object} owner */
  release(owner) {
    this.#requests.delete(owner);
    if (this.#requests.size) return;
    clearTimeout(this.#retry);
    this.#retry = 0;
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
    if (this.#requests.size === 0) return null;
    const lacks = (/** @type {ChunkInfo} */ { seq, bytes }) => bytes > 0 && !this.has(seq);
    const urgent = this.#near().find(lacks);
    if (urgent) return urgent.seq;
    const more = (/** @type {ChunkInfo} */ chunk) => this.store.fits(chunk.bytes) && lacks(chunk);
    return this.take.chunks.findLast(more)?.seq ?? null;
  }

  /** The requested chunks, up to a share of the store; more would drop chunks just fetched. */
  #near() {
    const near = [...this.#requests.values()].flat().flatMap((seq) => this.take.chunk(seq) ?? []);
    let room = this.store.capBytes / SHARES;
    const enough = near.findIndex(({ bytes }) => {
      room -= bytes;
      return room < 0;
    });
    return enough < 0 ? near : near.slice(0, Math.max(1, enough));
  }

  async #go() {
    if (this.#busy || this.#retry) return;
    this.#busy = true;
    try {
      for (let seq = this.#next(); seq !== null; seq = this.#next()) await this.#fetch(seq);
    } catch (error) {
      console.warn("Longtake: a chunk could not be fetched; retrying.", error);
      if (this.#requests.size) this.#retry = window.setTimeout(() => this.#again(), RETRY_MS);
    } finally {
      this.#busy = false;
    }
  }

  #again() {
    this.#retry = 0;
    void this.#go();
  }

  /** @param {number} seq */
  async #fetch(seq) {
    const chunk = await this.transport.chunk(seq);
    if (!chunk) return this.take.drop(seq);
    this.store.put(this.#key(seq), chunk);
    this.take.notify();
  }
}
