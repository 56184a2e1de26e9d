// @ts-check
/** @import { SavedFile } from "../types.mjs" */

const KEY = "longtake.saved";
const MOST = 100; // nodes remembered, the oldest forgotten first

/**
 * Which file each preview node's last run was saved as, in this browser: the server forgets takes
 * when it ends, its output folder stays.
 */
export class Keepsakes {
  /** @param {Pick<Storage, "getItem"|"setItem">} storage */
  constructor(storage) {
    this.storage = storage;
  }

  /** @param {string} workflow @param {string} node execution id @param {SavedFile} file */
  keep(workflow, node, file) {
    const others = this.#all().filter((one) => one.workflow !== workflow || one.node !== node);
    try {
      this.storage.setItem(KEY, JSON.stringify([...others, { workflow, node, file }].slice(-MOST)));
    } catch (error) { // other things on this page fill it
      console.warn("Longtake: the browser has no room to remember the saved video by.", error);
    }
  }

  /** The files of a workflow's nodes, by execution id. @param {string|null} workflow
   * @returns {Map<string, SavedFile>} */
  of(workflow) {
    const found = this.#all().filter((one) => one.workflow === workflow);
    return new Map(found.map(({ node, file }) => [node, file]));
  }

  /** @returns {{workflow: string, node: string, file: SavedFile}[]} the oldest first */
  #all() {
    return JSON.parse(this.storage.getItem(KEY) ?? "[]");
  }
}
