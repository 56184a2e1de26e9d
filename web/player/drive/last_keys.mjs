// @ts-check

const GRACE_MS = 1000; // in which a person who drives sees that the run has ended

/** Keys of a drive that has ended. Until they are released they do nothing else: a held W would open a menu of the host. */
export class LastKeys {
  /** @type {Set<string>} by `KeyboardEvent.code` */
  #down = new Set();
  #endedAt = -Infinity;

  /** @param {() => number} clock milliseconds */
  constructor(clock = () => performance.now()) {
    this.clock = clock;
  }

  /** Note a key that drives. @param {string} code @param {boolean} down */
  note(code, down) {
    if (down) this.#down.add(code);
    else this.#down.delete(code);
  }

  /** Forget what is down, where no release will be told. */
  forget() {
    this.#down.clear();
  }

  /** The run took the wheel from a person who may still press keys. */
  end() {
    this.#endedAt = this.clock();
  }

  /** Whether a press or release still belongs to the drive that has ended. @param {string} code @param {boolean} down */
  includes(code, down) {
    if (!down) return this.#down.delete(code);
    if (this.clock() - this.#endedAt < GRACE_MS) this.#down.add(code);
    return this.#down.has(code);
  }
}
