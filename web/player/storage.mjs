// @ts-check
/** What the browser remembers of this page. */

/** A storage that never fails. A browser may block its own, or it may be full: then this page remembers what it could
 * not store, until it closes. */
export class SafeStorage {
  /** @type {Map<string, string>} */
  #held = new Map();
  #warned = false;

  /** @param {() => Pick<Storage, "getItem"|"setItem">} open gives the browser's storage, or throws */
  constructor(open) {
    this.open = open;
  }

  /** @param {string} key @returns {string|null} */
  getItem(key) {
    const held = this.#held.get(key);
    if (held !== undefined) return held;
    try {
      return this.open().getItem(key);
    } catch (error) {
      this.#warn(error);
      return null;
    }
  }

  /** @param {string} key @param {string} text */
  setItem(key, text) {
    try {
      this.open().setItem(key, text);
      this.#held.delete(key);
    } catch (error) {
      this.#warn(error);
      this.#held.set(key, text);
    }
  }

  /** @param {unknown} error of the browser */
  #warn(error) {
    if (this.#warned) return;
    this.#warned = true;
    console.warn("Longtake: the browser's storage is blocked or full. Nothing is remembered once this page closes.", error);
  }
}

/** What every tab of this browser has, over a restart. */
export const ofBrowser = new SafeStorage(() => localStorage);
/** What this tab alone has, over a reload. */
export const ofTab = new SafeStorage(() => sessionStorage);
