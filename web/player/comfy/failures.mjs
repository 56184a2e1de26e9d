// @ts-check
/** Why runs failed, for the previews whose takes do not tell. Nodes and graphs are the host's, hence `any`. */
import { nodeAt, nodesBelow, upstream } from "./graph.mjs";

/** @typedef {{prompt_id: string, node_id: string, exception_message: string}} Failure  the host's message */

export class Failures {
  /** Sentences by workflow and execution id. @type {Map<string, string>} */
  #texts = new Map();

  /**
   * Remember a failure for each preview, but those whose takes failed with it: these say so themselves.
   * A preview beside the node that failed only knows that its run was cancelled.
   * @param {any} root @param {string} workflow @param {Failure} failure
   * @param {(node: any) => boolean} isPreview @param {(id: string) => boolean} hasTake
   */
  add(root, workflow, { node_id: id, exception_message: message }, isPreview, hasTake) {
    const failed = nodeAt(root, id);
    if (!failed) return; // another workflow's
    const text = `${failed.title}: ${message.trim().split("\n")[0]}`;
    for (const { node, path } of nodesBelow(root, isPreview)) {
      const preview = [...path, node.id].join(":");
      const tells = hasTake(preview) && upstream(root, preview, (each) => each === failed);
      if (!tells) this.#texts.set(keyOf(workflow, preview), text);
    }
  }

  /** Forget a workflow's failures. @param {string} workflow */
  clear(workflow) {
    for (const key of this.#texts.keys()) {
      if (key.startsWith(keyOf(workflow, ""))) this.#texts.delete(key);
    }
  }

  /** Return the failures of a workflow's previews by node. @param {any} root @param {string|null} workflow
   * @returns {Map<any, string>} */
  of(root, workflow) {
    const prefix = keyOf(workflow ?? "", "");
    const own = [...this.#texts].filter(([key]) => key.startsWith(prefix));
    return new Map(own.map(([key, text]) => [nodeAt(root, key.slice(prefix.length)), text]));
  }
}

/** @param {string} workflow @param {string} preview */
function keyOf(workflow, preview) {
  return `${workflow} ${preview}`;
}
