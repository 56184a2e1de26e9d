// @ts-check
/** A new node put into a link of the canvas. Nodes, graphs and links are the host's own, hence `any`. */
import { SUBGRAPH_INPUT, linkOf } from "./graph.mjs";

const GAP = 60; // pixels of the canvas
const TITLE = 30; // above a node's own place

/**
 * Put a node between `node`'s input `name` and what feeds it; null where nothing does.
 * @param {any} litegraph the host's LiteGraph @param {any} node @param {string} name
 * @param {string} type of the new node, whose first input and output carry the same
 * @returns {any}
 */
export function insertBefore(litegraph, node, name, type) {
  const { graph } = node;
  const slot = node.inputs?.findIndex((/** @type {any} */ each) => each.name === name) ?? -1;
  const link = slot < 0 || node.inputs[slot].link == null ? null : linkOf(graph, node.inputs[slot].link);
  if (!link) return null;
  const made = litegraph.createNode(type);
  if (!made) return null;
  graph.beforeChange?.();
  graph.add(made);
  made.pos = [node.pos[0], freeBelow(graph, node, made)];
  feed(graph, link, made);
  made.connect(0, node, slot);
  graph.afterChange?.();
  return made;
}

/** The nearest height below a node at which another covers nothing. @param {any} graph @param {any} node
 * @param {any} made @returns {number} */
function freeBelow(graph, node, made) {
  let top = node.pos[1] + node.size[1] + GAP;
  const [left, right] = [node.pos[0], node.pos[0] + made.size[0]];
  const others = graph.nodes.filter((/** @type {any} */ each) => each !== made && each !== node
    && each.pos[0] < right && left < each.pos[0] + each.size[0]);
  others.sort((/** @type {any} */ one, /** @type {any} */ other) => one.pos[1] - other.pos[1]);
  for (const { pos, size } of others) {
    const covered = pos[1] - TITLE < top + made.size[1] && top - TITLE < pos[1] + size[1];
    if (covered) top = pos[1] + size[1] + GAP;
  }
  return top;
}

/** Connect what a link comes from to the first input of a node. @param {any} graph @param {any} link
 * @param {any} made */
function feed(graph, link, made) {
  if (String(link.origin_id) === SUBGRAPH_INPUT) graph.inputs[link.origin_slot].connect(made.inputs[0], made);
  else graph.getNodeById(link.origin_id).connect(link.origin_slot, made, 0);
}
