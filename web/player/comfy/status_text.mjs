// @ts-check
/** The status text that the host shows under a node. Nodes are the host's objects, hence `any`. */
import { executionId, nodesBelow } from "./graph.mjs";

export const STATUS = "$$node-text-preview"; // the host's name of the widget

/** What this pack's nodes said last. The newest front end removes the texts of a run's nodes at its end; these
 * hold until a node says something else. */
export class StatusTexts {
  /** @type {WeakMap<any, string>} by node */
  #texts = new WeakMap();

  /** @param {any} node @param {string} text */
  note(node, text) {
    this.#texts.set(node, text);
  }

  /** Empty a node's text, of an earlier run: an older front end keeps the text until another one comes. @param {any} node */
  empty(node) {
    this.#texts.delete(node);
    const widget = widgetOf(node);
    if (widget) widget.value = "";
  }

  /** Return the texts that nodes of a graph no longer show, as the host's messages.
   * @param {any} root @returns {{nodeId: string, text: string}[]} */
  removed(root) {
    const silent = nodesBelow(root, (node) => this.#texts.has(node) && !widgetOf(node));
    return silent.map((place) => ({ nodeId: executionId(place), text: this.#texts.get(place.node) ?? "" }));
  }
}

/** @param {any} node */
function widgetOf(node) {
  return node.widgets?.find((/** @type {any} */ each) => each.name === STATUS);
}
