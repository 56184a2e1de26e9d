// @ts-check
/** @import { SavedFile } from "../types.mjs" */

const KEY = "longtake.saved";
const MAX_NODES = 100; // the oldest are forgotten first

/**
 * The saved video of each preview node's last run, remembered in this browser. The server forgets
 * its takes when it stops, but the files in its output folder remain.
 */
export class SavedVideos {
  /** @param {Pick<Storage, "getItem"|"setItem">} storage */
  constructor(storage) {
    this.storage = storage;
  }

  /** @param {string} workflow @param {string} node execution id @param {SavedFile} file */
  keep(workflow, node, file) {
    const others = this.#all().filter((entry) => entry.workflow !== workflow || entry.node !== node);
    try {
      this.storage.setItem(KEY, JSON.stringify([...others, { workflow, node, file }].slice(-MAX_NODES)));
    } catch (error) { // other data of this page may fill the storage
      console.warn("Longtake: the browser's storage is full; the saved video is not remembered.", error);
    }
  }

  /** Return the files of a workflow's nodes by execution id. @param {string|null} workflow
   * @returns {Map<string, SavedFile>} */
  of(workflow) {
    const found = this.#all().filter((entry) => entry.workflow === workflow);
    return new Map(found.map(({ node, file }) => [node, file]));
  }

  /** @returns {{workflow: string, node: string, file: SavedFile}[]} oldest first */
  #all() {
    return JSON.parse(this.storage.getItem(KEY) ?? "[]");
  }
}
