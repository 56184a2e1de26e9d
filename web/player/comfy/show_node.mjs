// @ts-check
/** Brings a node of any graph into view. Canvas and nodes are the host's objects, hence `any`. */

/** Whether an element is on the page: the host hides its canvas in app mode. @param {Element|undefined} element */
export function isOnPage(element) {
  return !!element?.getClientRects().length;
}

/**
 * Select a node and centre the view on it; leave app mode first, and open the node's graph.
 * In the frame after, the host fits the view to an opened graph, and selects a node that was clicked.
 * @param {any} app @param {any} node
 */
export function showNode({ canvas, extensionManager }, node) {
  if (!canvas) return;
  if (!isOnPage(canvas.canvas)) extensionManager.command.execute("Comfy.ToggleLinear");
  const { scale } = canvas.ds;
  if (canvas.graph !== node.graph) canvas.setGraph(node.graph);
  requestAnimationFrame(() => requestAnimationFrame(() => {
    if (canvas.graph !== node.graph) return; // the user has gone elsewhere
    canvas.ds.scale = scale;
    canvas.selectNode(node);
    canvas.centerOnNode(node);
    canvas.setDirty(true, true);
  }));
}
