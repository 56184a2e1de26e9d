// @ts-check
/** Brings a node of any graph into view. Canvas and nodes are the host's objects, hence `any`. */

/**
 * Select a node and centre the view on it; open its graph first, if another one is on the canvas.
 * In the frame after, the host fits the view to an opened graph, and selects a node that was clicked.
 * @param {any} canvas @param {any} node
 */
export function showNode(canvas, node) {
  if (!canvas) return;
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
