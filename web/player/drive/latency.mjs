// @ts-check
/** Measures the time from a key to the first picture that was made with it. */

const KEPT = 200; // measurements

export class Latency {
  /** Milliseconds, in order of time. @type {number[]} */
  measured = [];
  /** Messages that no chunk has read. @type {{number: number, at: number}[]} */
  #sent = [];
  /** Keys that a chunk has read whose picture is not yet shown. @type {{frame: number, at: number}[]} */
  #awaited = [];

  /** A key changed at `at` milliseconds; message `number` says so. @param {number} number @param {number} at */
  sent(number, at) {
    this.#sent.push({ number, at });
  }

  /** The chunk from `frame` on has read all messages up to `number`. @param {number} number @param {number} frame */
  read(number, frame) {
    for (const each of this.#sent) if (each.number <= number) this.#awaited.push({ frame, at: each.at });
    this.#sent = this.#sent.filter((each) => each.number > number);
  }

  /** Frame `frame` is on the screen. @param {number} frame @param {number} now milliseconds */
  shown(frame, now) {
    const done = this.#awaited.filter((each) => each.frame <= frame);
    if (!done.length) return;
    this.measured = [...this.measured, ...done.map(({ at }) => now - at)].slice(-KEPT);
    this.#awaited = this.#awaited.filter((each) => each.frame > frame);
  }

  /** Forget keys whose picture will not come. */
  drop() {
    this.#sent = [];
    this.#awaited = [];
  }

  /** The time in seconds that a share of the keys needed at most; null before the first. @param {number} share */
  percentile(share) {
    if (!this.measured.length) return null;
    const sorted = [...this.measured].sort((a, b) => a - b);
    return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] / 1000;
  }
}
