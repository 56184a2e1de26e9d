// @ts-check
/** Why runs failed, for the previews whose takes do not tell. Nodes and graphs are the host's, hence `any`. */
import { executionId, nodeAt, nodesBelow, upstream } from "./graph.mjs";

/** @typedef {{prompt_id: string, node_id: string, exception_message: string}} Failure  the host's message */

export class Failures {
  /** The failure of each workflow's last run. @type {Map<string, Failure>} */
  #last = new Map();

  /** @param {string} workflow @param {Failure} failure */
  add(workflow, failure) {
    this.#last.set(workflow, failure);
  }

  /** Forget a workflow's failure. @param {string} workflow */
  clear(workflow) {
    this.#last.delete(workflow);
  }

  /**
   * Return the sentences for a workflow's previews, but for those whose takes failed with it: these say so
   * themselves. A preview beside the node that failed only knows that its run was cancelled.
   * @param {any} root graph of the workflow @param {string|null} workflow @param {(node: any) => boolean} isPreview
   * @param {(id: string, prompt: string) => boolean} hasTake @returns {Map<any, string>} by node
   */
  of(root, workflow, isPreview, hasTake) {
    const failure = this.#last.get(workflow ?? "");
    const failed = failure && nodeAt(root, failure.node_id);
    if (!failed) return new Map();
    const text = `${failed.title}: ${failure.exception_message.trim().split("\n")[0]}`;
    const tells = (/** @type {string} */ id) =>
      hasTake(id, failure.prompt_id) && upstream(root, id, (each) => each === failed) !== null;
    const silent = nodesBelow(root, isPreview).filter((place) => !tells(executionId(place)));
    return new Map(silent.map(({ node }) => [node, text]));
  }
}
