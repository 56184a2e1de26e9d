// @ts-check
/** Inserts a new node into a link of the canvas. Nodes, graphs and links are the host's, hence `any`. */
import { SUBGRAPH_INPUT, linkOf } from "./graph.mjs";

const GAP = 160; // canvas pixels, so that a player above can grow
const TITLE = 30; // canvas pixels of the title bar above a node's position

/**
 * Insert a node between `node`'s input `name` and its source; return null without a source.
 * @param {any} litegraph the host's LiteGraph @param {any} node @param {string} name
 * @param {string} type of the new node, whose first input and output have the same type
 * @returns {any}
 */
export function insertBefore(litegraph, node, name, type) {
  const { graph } = node;
  const slot = node.inputs?.findIndex((/** @type {any} */ each) => each.name === name) ?? -1;
  const link = slot < 0 || node.inputs[slot].link == null ? null : linkOf(graph, node.inputs[slot].link);
  if (!link) return null;
  const inserted = litegraph.createNode(type);
  if (!inserted) return null;
  graph.beforeChange?.();
  graph.add(inserted);
  inserted.pos = [node.pos[0], freeBelow(graph, node, inserted)];
  feed(graph, link, inserted);
  inserted.connect(0, node, slot);
  graph.afterChange?.();
  return inserted;
}

/** Return the nearest y below a node where a new node covers no other node. @param {any} graph @param {any} node
 * @param {any} inserted @returns {number} */
function freeBelow(graph, node, inserted) {
  let top = node.pos[1] + node.size[1] + GAP;
  const [left, right] = [node.pos[0], node.pos[0] + inserted.size[0]];
  const others = graph.nodes.filter((/** @type {any} */ each) => each !== inserted && each !== node
    && each.pos[0] < right && left < each.pos[0] + each.size[0]);
  others.sort((/** @type {any} */ a, /** @type {any} */ b) => a.pos[1] - b.pos[1]);
  for (const { pos, size } of others) {
    const covered = pos[1] - TITLE < top + inserted.size[1] && top - TITLE < pos[1] + size[1];
    if (covered) top = pos[1] + size[1] + GAP;
  }
  return top;
}

/** Connect the source of a link to the first input of a node. @param {any} graph @param {any} link
 * @param {any} inserted */
function feed(graph, link, inserted) {
  if (String(link.origin_id) === SUBGRAPH_INPUT) graph.inputs[link.origin_slot].connect(inserted.inputs[0], inserted);
  else graph.getNodeById(link.origin_id).connect(link.origin_slot, inserted, 0);
}
