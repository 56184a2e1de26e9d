// @ts-check
/** @import { ChunkInfo, TakeInfo } from "../types.mjs" */

/** A take as known to this page: the server's latest state, and the frames of each chunk. */
export class Take {
  /** @type {ChunkInfo[]} in order of frames */
  chunks = [];
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** Number of messages received; shows whether a message overtook a response. */
  messageCount = 0;
  /** False once the server no longer has the take. */
  known = true;
  /** The page's connection to the server: `silent` is open without answers. @type {"open"|"silent"|"closed"} */
  connection = "open";

  /** @param {string} token */
  constructor(token) {
    this.token = token;
    /** @type {TakeInfo} */
    this.info = {
      take: token, node_id: null, display_node_id: null, prompt_id: null, workflow_id: null,
      control_rev: 0, state: "waiting", fps: 16, width: 0, height: 0, total_frames: null,
      prompt_changes: [], edits: [], stats: {}, resume_at_s: null, message: null, plan: null,
      files: [], drive: null,
    };
  }

  /** Number of generated frames, including frames that the server has dropped. */
  get frames() {
    const last = this.chunks.at(-1);
    return last ? last.first_frame + last.count : 0;
  }

  /** Expected number of frames. */
  get length() {
    return Math.max(this.info.total_frames ?? 0, this.frames);
  }

  /** Whether more frames may come. */
  get growing() {
    return this.known && ["waiting", "running", "paused", "stopping"].includes(this.info.state);
  }

  /** Whether the server can be reached from this page. */
  get connected() {
    return this.connection === "open";
  }

  /** Whether the run can be followed and controlled from this page. */
  get live() {
    return this.growing && this.connected;
  }

  /** The time at which a resumed run makes its first new chunk, in seconds, until that chunk is here; else null. */
  get resuming() {
    const { resume_at_s: at, fps } = this.info;
    return this.growing && at != null && this.frames <= Math.round(at * fps) ? at : null;
  }

  /** Whether every chunk so far is listed here. */
  get complete() {
    return this.chunks.every((chunk, index) => chunk.seq === index);
  }

  /** @param {Partial<TakeInfo> & {chunks?: ChunkInfo[]}} state of the take on the server */
  update({ chunks, ...state }) {
    Object.assign(this.info, state);
    this.known = true;
    if (chunks) this.#list(chunks);
    this.notify();
  }

  /** @param {TakeInfo} message from the server */
  receive(message) {
    this.messageCount++;
    this.update(message);
  }

  /** @param {ChunkInfo[]} listed */
  #list(listed) {
    const known = new Set(listed.map(({ seq }) => seq));
    const newer = this.chunks.filter(({ seq }) => !known.has(seq));
    this.chunks = [...listed, ...newer].sort((one, other) => one.seq - other.seq);
  }

  /** @param {ChunkInfo & Partial<TakeInfo>} chunk */
  add({ seq, first_frame, count, bytes, stats, prompt, recalled }) {
    if (!this.chunks.some((chunk) => chunk.seq === seq)) {
      this.#list([...this.chunks, { seq, first_frame, count, bytes, prompt, recalled }]);
    }
    if (stats) this.info.stats = stats;
    this.notify();
  }

  /** Return chunk `seq`. Its index is usually `seq`; missing chunks before it shift the index.
   * @param {number} seq @returns {ChunkInfo|undefined} */
  chunk(seq) {
    const at = this.chunks[seq];
    return at?.seq === seq ? at : this.chunks.find((each) => each.seq === seq);
  }

  /** Mark a chunk whose pictures the server has dropped. @param {number} seq */
  drop(seq) {
    const chunk = this.chunk(seq);
    if (!chunk || chunk.bytes === 0) return;
    chunk.bytes = 0;
    this.notify();
  }

  /** Mark a take that the server no longer has; fetched chunks can still be watched. */
  markLost() {
    this.known = false;
    this.notify();
  }

  /** @param {"open"|"silent"|"closed"} connection */
  setConnection(connection) {
    if (connection === this.connection) return;
    this.connection = connection;
    this.notify();
  }

  /** Return the index into `chunks` of the chunk with a frame, or -1. @param {number} frame */
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

  /** Return the earlier frames that were fetched to make a frame, as pairs of the first frame and the
   * one after the last. @param {number} frame @returns {[number, number][]} */
  recalledAt(frame) {
    return this.chunks[this.indexAt(frame)]?.recalled ?? [];
  }

  /** Return the prompt in force at a frame, or null. @param {number} frame */
  promptAt(frame) {
    const changes = this.info.prompt_changes.filter((change) => change.frame <= frame);
    return changes.at(-1) ?? null;
  }

  /** Call `listener` on every change; returns a function that ends this. @param {() => void} listener */
  listen(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Notify the listeners that the take, or its bytes on this page, have changed. */
  notify() {
    for (const listener of this.#listeners) listener();
  }
}
