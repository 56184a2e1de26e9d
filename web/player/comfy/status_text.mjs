// @ts-check
/** The status text that the host shows under a node. Nodes are the host's objects, hence `any`. */

export const STATUS = "$$node-text-preview"; // the host's name of the widget

/** Empty a node's status text, of an earlier run: the host keeps it until another one comes. @param {any} node */
export function clearStatus(node) {
  const widget = node.widgets?.find((/** @type {any} */ each) => each.name === STATUS);
  if (widget) widget.value = "";
}
