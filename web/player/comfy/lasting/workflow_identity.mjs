// @ts-check
/** Which workflow a graph is. Graphs are the host's objects, hence `any`. */

const NONE = "00000000-0000-0000-0000-000000000000";

/**
 * Give a graph that was cleared an id of its own. ComfyUI's front end 1.58 does so itself, but 1.49 leaves the same id
 * in each of them, and by it takes, failures and pictures belong to a workflow. Call this while the graph is empty: the
 * front end keeps the values of widgets by the graph's id. @param {any} root
 */
export function identifyWorkflow(root) {
  const { LiteGraph } = /** @type {any} */ (globalThis);
  if (root?.id === NONE) root.id = LiteGraph.uuidv4();
}
