// @ts-check
/** The free room below a node. Nodes and graphs are the host's objects, hence `any`. */

const MARGIN = 20; // canvas pixels that stay free
const TITLE = 30; // canvas pixels of the title bar above a node's position

/** Return by how many pixels a node can grow downwards without covering another one. @param {any} node */
export function roomBelow(node) {
  const [left, top] = node.pos;
  const [right, bottom] = [left + node.size[0], top + node.size[1]];
  const below = node.graph.nodes.filter((/** @type {any} */ each) => each !== node && each.pos[1] - TITLE >= bottom
    && each.pos[0] < right && left < each.pos[0] + each.size[0]);
  const tops = below.map((/** @type {any} */ each) => each.pos[1] - TITLE);
  return Math.max(0, Math.min(...tops) - bottom - MARGIN);
}
