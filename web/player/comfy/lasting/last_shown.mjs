// @ts-check
/** @import { SavedFile } from "../../types.mjs" */
import { ofBrowser } from "../../storage.mjs";

const KEY = "longtake.previews";
const MAX_NODES = 100; // the oldest are forgotten first

/** @typedef {{takes: string[], file: SavedFile|null}} Shown  tokens of takes, newest last */

/**
 * What each preview showed last, by the node's identity: its takes, and the saved video of its last run. This
 * browser remembers both, for each of its tabs and over a restart. The server forgets its takes when it stops, but
 * the files in its output folder remain.
 */
export class LastShown {
  /** @param {Pick<Storage, "getItem"|"setItem">} storage that does not throw */
  constructor(storage = ofBrowser) {
    this.storage = storage;
  }

  /** @param {string} node its identity @returns {Shown} */
  of(node) {
    const all = this.#all();
    return Object.hasOwn(all, node) ? all[node] : { takes: [], file: null }; // a workflow file may say "constructor"
  }

  /** @param {string} node its identity @param {Partial<Shown>} news */
  note(node, news) {
    const [all, before] = [this.#all(), this.of(node)];
    const shown = { ...before, ...news };
    if (JSON.stringify(before) === JSON.stringify(shown)) return; // nothing new, or a copy of an empty preview
    delete all[node]; // the newest is last
    const entries = Object.entries({ ...all, [node]: shown }).slice(-MAX_NODES);
    this.#store(Object.fromEntries(entries));
  }

  /** @param {Record<string, Shown>} all */
  #store(all) {
    this.storage.setItem(KEY, JSON.stringify(all));
  }

  /** @returns {Record<string, Shown>} oldest first */
  #all() {
    const text = this.storage.getItem(KEY) ?? "{}";
    try {
      return read(text);
    } catch (error) { // no preview would work again while it is there
      console.warn("Longtake: what this browser remembered of previews is damaged and is forgotten.", error);
      this.#store({});
      return {};
    }
  }
}

/** @param {string} text as stored @returns {Record<string, Shown>} */
function read(text) {
  const all = JSON.parse(text);
  const shown = /** @type {Shown[]} */ (Object.values(all));
  if (!shown.every(({ takes }) => Array.isArray(takes))) throw new TypeError("a preview without a list of takes");
  return all;
}
