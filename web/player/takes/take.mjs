// @ts-check
/** @import { ChunkInfo, TakeInfo } from "../types.mjs" */

/** A take as this page knows it: what the server last said, and which frames lie in which chunk. */
export class Take {
  /** @type {ChunkInfo[]} in order of frames */
  chunks = [];
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** Messages heard about it, so that an answer can be told from one that a message overtook. */
  heard = 0;
  /** False once the server no longer knows it. */
  known = true;

  /** @param {string} token */
  constructor(token) {
    this.token = token;
    /** @type {TakeInfo} */
    this.info = {
      take: token, node_id: null, display_node_id: null, prompt_id: null, workflow_id: null,
      control_rev: 0, state: "waiting", fps: 16, width: 0, height: 0, total_frames: null,
      prompt_changes: [], edits: [], stats: {}, resume_at_s: null, message: null, plan: null,
      files: [],
    };
  }

  /** Frames that exist, counting those that the server has dropped since. */
  get frames() {
    const last = this.chunks.at(-1);
    return last ? last.first_frame + last.count : 0;
  }

  /** Frames there will be, as far as anybody knows. */
  get length() {
    return Math.max(this.info.total_frames ?? 0, this.frames);
  }

  /** Whether more frames may come. */
  get growing() {
    return this.known && ["waiting", "running", "paused", "stopping"].includes(this.info.state);
  }

  /** Whether every chunk so far is listed here. */
  get complete() {
    return this.chunks.every((chunk, index) => chunk.seq === index);
  }

  /** @param {Partial<TakeInfo> & {chunks?: ChunkInfo[]}} said what the server says now */
  update({ chunks, ...said }) {
    Object.assign(this.info, said);
    this.known = true;
    if (chunks) this.#list(chunks);
    this.tell();
  }

  /** @param {TakeInfo} said a message from the server */
  hear(said) {
    this.heard++;
    this.update(said);
  }

  /** @param {ChunkInfo[]} listed */
  #list(listed) {
    const known = new Set(listed.map(({ seq }) => seq));
    const newer = this.chunks.filter(({ seq }) => !known.has(seq));
    this.chunks = [...listed, ...newer].sort((one, other) => one.seq - other.seq);
  }

  /** @param {ChunkInfo & Partial<TakeInfo>} chunk */
  add({ seq, first_frame, count, bytes, stats, prompt }) {
    if (!this.chunks.some((chunk) => chunk.seq === seq)) {
      this.#list([...this.chunks, { seq, first_frame, count, bytes, prompt }]);
    }
    if (stats) this.info.stats = stats;
    this.tell();
  }

  /** Chunk `seq`, mostly at its own number: before it some may be lacking.
   * @param {number} seq @returns {ChunkInfo|undefined} */
  chunk(seq) {
    const at = this.chunks[seq];
    return at?.seq === seq ? at : this.chunks.find((each) => each.seq === seq);
  }

  /** The server keeps this chunk's pictures no longer. @param {number} seq */
  drop(seq) {
    const chunk = this.chunk(seq);
    if (!chunk || chunk.bytes === 0) return;
    chunk.bytes = 0;
    this.tell();
  }

  /** The server no longer knows this take; what was fetched can still be watched. */
  lose() {
    this.known = false;
    this.tell();
  }

  /** Index into `chunks` of the chunk that holds a frame, or -1. @param {number} frame */
  indexAt(frame) {
    let [low, high] = [0, this.chunks.length - 1];
    while (low <= high) {
      const middle = (low + high) >> 1;
      const { first_frame, count } = this.chunks[middle];
      if (frame < first_frame) high = middle - 1;
      else if (frame >= first_frame + count) low = middle + 1;
      else return middle;
    }
    return -1;
  }

  /** The prompt in force at a frame. @param {number} frame */
  promptAt(frame) {
    const changes = this.info.prompt_changes.filter((change) => change.frame <= frame);
    return changes.at(-1) ?? null;
  }

  /** Be told of every change; returns the function that ends it. @param {() => void} listener */
  listen(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Tell the listeners that something about it, or its bytes on this page, has changed. */
  tell() {
    for (const listener of this.#listeners) listener();
  }
}
