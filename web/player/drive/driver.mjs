// @ts-check
import { Latency } from "./latency.mjs";

const HEARTBEAT_MS = 250; // the server forgets a silent driver after seconds
const AT_REST = JSON.stringify([[], [0, 0, 0, 0, 0]]); // no key and no stick

/** @typedef {{answer: "drives"|"other"|"ended"|"no camera"|"several shots", motion?: string, error?: string}} Answer */
/** @typedef {{keys: string[], sticks: number[], look: number[], at: number|null}} Snapshot */

/**
 * What a person holds, from all sources, sent to the server edge by edge. No timers and no DOM: `tick`
 * is called often.
 */
export class Driver {
  on = false;
  mode = "hold";
  latency = new Latency();
  /** The server's last answer. @type {Answer|null} */
  answer = null;
  /** Keys that are down, by source. @type {Map<string, Set<string>>} */
  #down = new Map();
  #sticks = [0, 0, 0, 0, 0];
  #look = [0, 0];
  /** @type {Snapshot[]} in order of time */
  #waiting = [];
  #last = AT_REST; // the last snapshot, without the mouse
  #shown = /** @type {number|null} */ (null); // as last sent
  #number = 0;
  #sending = false;
  #takeOver = false;
  #sentAt = -Infinity;

  /**
   * @param {string} id of this page
   * @param {(body: object) => Promise<Answer>} send
   * @param {() => void} onChange
   * @param {() => number} clock milliseconds
   */
  constructor(id, send, onChange, clock = () => performance.now()) {
    this.id = id;
    this.send = send;
    this.onChange = onChange;
    this.clock = clock;
  }

  /** All keys that are down. */
  get keys() {
    return [...new Set([...this.#down.values()].flatMap((keys) => [...keys]))].sort();
  }

  /** Begin to drive. @param {boolean} [takeOver] from another page */
  start(takeOver = false) {
    this.on = true;
    this.#takeOver = takeOver;
    this.answer = null;
    this.#last = AT_REST; // so that the beginning is no key whose picture is awaited
    this.#sentAt = -Infinity;
    this.onChange();
  }

  /** Let go of the wheel. */
  stop() {
    if (!this.on) return;
    this.releaseAll();
    this.on = false;
    this.#waiting = [];
    this.latency.drop();
    void this.#post({ keys: [], sticks: [0, 0, 0, 0, 0], look: [0, 0], at: null }, null, true);
    this.onChange();
  }

  /** @param {string} key @param {boolean} down @param {string} source such as a keyboard or a finger */
  set(key, down, source) {
    const keys = this.#down.get(source) ?? new Set();
    if (keys.has(key) === down) return;
    if (down) keys.add(key);
    else keys.delete(key);
    this.#down.set(source, keys);
    this.#note();
  }

  /** Release the keys of a source, or of all. @param {string} [source] */
  releaseAll(source) {
    if (source === undefined) this.#down.clear();
    else this.#down.delete(source);
    this.#note();
  }

  /** @param {number[]} sticks */
  setSticks(sticks) {
    this.#sticks = sticks;
    this.#note();
  }

  /** The mouse moved by some pixels. @param {number} right @param {number} down */
  look(right, down) {
    if (!this.on || (!right && !down)) return;
    this.#look = [this.#look[0] + right, this.#look[1] + down];
  }

  /** Note an edge, unless nothing changed. */
  #note() {
    const now = JSON.stringify([this.keys, this.#sticks]);
    if (!this.on || now === this.#last) return;
    this.#last = now;
    this.#waiting.push(this.#snapshot(this.clock()));
    this.onChange();
  }

  /** @param {number|null} at @returns {Snapshot} */
  #snapshot(at) {
    const look = this.#look;
    this.#look = [0, 0];
    return { keys: this.keys, sticks: [...this.#sticks], look, at };
  }

  /** Send what waits, and each frame that comes to the screen; without news, now and then a sign of life.
   * @param {number|null} shown the frame on the screen, null if the page does not follow the run */
  async tick(shown) {
    if (!this.on || this.#sending) return;
    const moved = this.#look[0] !== 0 || this.#look[1] !== 0;
    const now = this.clock();
    const due = moved || shown !== this.#shown || now - this.#sentAt >= HEARTBEAT_MS;
    const next = this.#waiting.shift() ?? (due ? this.#snapshot(moved ? now : null) : null);
    if (!next) return;
    this.#sending = true;
    this.#sentAt = now;
    this.#shown = shown;
    try {
      await this.#post(next, shown, false);
    } finally {
      this.#sending = false;
    }
    if (this.#waiting.length) await this.tick(shown);
  }

  /** @param {Snapshot} snapshot @param {number|null} shown @param {boolean} leave */
  async #post({ keys, sticks, look, at }, shown, leave) {
    const number = ++this.#number;
    if (at !== null) this.latency.sent(number, at);
    const takeOver = this.#takeOver;
    const body = { driver: this.id, number, keys, sticks, look, mode: this.mode, shown, take_over: takeOver, leave };
    const answer = await this.send(body).catch((error) => ({ answer: /** @type {const} */ ("ended"), error: String(error.message ?? error) }));
    if (leave) return;
    if (takeOver) this.#takeOver = false; // it may be wanted since this was sent
    const changed = JSON.stringify(answer) !== JSON.stringify(this.answer);
    this.answer = answer;
    if (answer.answer !== "drives") this.latency.drop();
    if (changed) this.onChange();
  }
}
