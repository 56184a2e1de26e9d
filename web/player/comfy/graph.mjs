// @ts-check
/**
 * Traverses the canvas graph, also across the borders of subgraphs. Nodes, graphs and links are the
 * host's objects, hence `any`.
 */

export const SUBGRAPH_INPUT = "-10"; // the origin of a link from a subgraph's own inputs, a number in older hosts
const [MUTED, BYPASSED] = [2, 4]; // LiteGraph's modes of a node that a run leaves out

/** Return the node with an execution id such as "12:3", or null. @param {any} root @param {string|null} id */
export function nodeAt(root, id) {
  const path = (id ?? "").split(":");
  const last = path.pop();
  const graph = graphAt(root, path);
  return graph?.getNodeById(idOf(last)) ?? null;
}

/** @param {any} root @param {string[]} path ids of subgraph nodes from the outside in */
function graphAt(root, path) {
  return path.reduce((graph, id) => graph?.getNodeById(idOf(id))?.subgraph ?? null, root);
}

/** Convert a numeric id to a number, as the host's graphs expect. @param {string|undefined} id */
function idOf(id) {
  return id !== undefined && /^\d+$/.test(id) ? Number(id) : id;
}

/** Whether a node is in a graph or in one of its subgraphs, as they are now. @param {any} root @param {any} node */
export function isWithin(root, { graph }) {
  return !!graph && (graph === root || root.subgraphs?.get(graph.id) === graph);
}

/**
 * Return the matching nodes of a graph and of its subgraphs, with the paths of their graphs.
 * @param {any} graph @param {(node: any) => boolean} wanted @param {string[]} [path]
 * @returns {{node: any, path: string[]}[]}
 */
export function nodesBelow(graph, wanted, path = []) {
  const nodes = /** @type {any[]} */ (graph?.nodes ?? []);
  const own = nodes.filter(wanted).map((node) => ({ node, path }));
  const inner = nodes.filter((node) => node.subgraph);
  return [...own, ...inner.flatMap((node) => nodesBelow(node.subgraph, wanted, [...path, String(node.id)]))];
}

/**
 * Return the nearest node upstream of `start` that matches `wanted`, with the path of its graph.
 * @param {any} root @param {string} start execution id
 * @param {(node: any) => boolean} wanted @param {(node: any) => boolean} [isEnd] nodes behind which nothing is wanted
 * @returns {{node: any, path: string[]}|null}
 */
export function upstream(root, start, wanted, isEnd) {
  return allUpstream(root, start, wanted, isEnd).next().value ?? null;
}

/**
 * Yield the nodes upstream of `start` that match `wanted`, the nearest first, with the paths of their graphs. A run
 * leaves out muted and bypassed nodes, and so does this.
 * @param {any} root @param {string} start execution id, itself the first node
 * @param {(node: any) => boolean} wanted @param {(node: any) => boolean} [isEnd] nodes behind which nothing is wanted
 * @returns {Generator<{node: any, path: string[]}, void, void>}
 */
export function* allUpstream(root, start, wanted, isEnd = () => false) {
  const path = start.split(":").slice(0, -1);
  const queue = [{ node: nodeAt(root, start), path }];
  const seen = new Set();
  for (let at = queue.shift(); at; at = queue.shift()) {
    const key = executionId(at);
    if (!at.node || seen.has(key)) continue;
    seen.add(key);
    if (takesPart(at.node) && wanted(at.node)) yield at;
    if (!isEnd(at.node)) queue.push(...originsOf(root, at));
  }
}

/**
 * Return the node upstream of `start` that matches `wanted` and comes first in the order of the inputs on the way,
 * with the path of its graph. @param {any} root @param {string} start execution id
 * @param {(node: any) => boolean} wanted @returns {{node: any, path: string[]}|null}
 */
export function firstUpstream(root, start, wanted) {
  const stack = [{ node: nodeAt(root, start), path: start.split(":").slice(0, -1) }];
  const seen = new Set();
  for (let at = stack.pop(); at; at = stack.pop()) {
    const key = executionId(at);
    if (!at.node || seen.has(key)) continue;
    seen.add(key);
    if (takesPart(at.node) && wanted(at.node)) return at;
    stack.push(...originsOf(root, at).reverse());
  }
  return null;
}

/** Return the nodes that feed a node's inputs, in their order. @param {any} root
 * @param {{node: any, path: string[]}} place */
function originsOf(root, { node, path }) {
  return inputsInUse(node).flatMap((/** @type {any} */ input) => originOf(root, path, input.link) ?? []);
}

/** Return a node's inputs, of a bypassed node those that it passes on: as the host chooses them. @param {any} node
 * @returns {any[]} */
function inputsInUse({ mode, inputs = [], outputs = [] }) {
  if (mode === MUTED) return [];
  if (mode !== BYPASSED) return inputs;
  const passed = outputs.map((/** @type {any} */ { type }, /** @type {number} */ slot) =>
    (inputs[slot]?.type === type ? inputs[slot] : inputs.find((/** @type {any} */ input) => input.type === type)));
  return inputs.filter((/** @type {any} */ input) => passed.includes(input));
}

/** @param {any} node */
function takesPart({ mode }) {
  return mode !== MUTED && mode !== BYPASSED;
}

/** Return the execution id of a node, such as "12:3". @param {{node: any, path: string[]}} place */
export function executionId({ node, path }) {
  return [...path, node?.id].join(":");
}

/**
 * Return the node that a link comes from, across the borders of subgraphs in both directions.
 * @param {any} root @param {string[]} path of the link's graph @param {number|null} id
 * @returns {{node: any, path: string[]}|null}
 */
function originOf(root, path, id) {
  const graph = graphAt(root, path);
  const link = id == null ? null : linkOf(graph, id);
  if (!link) return null;
  if (String(link.origin_id) === SUBGRAPH_INPUT) return outside(root, path, link.origin_slot);
  const node = graph.getNodeById(link.origin_id);
  if (!node?.subgraph) return node ? { node, path } : null;
  const inner = node.subgraph.outputs?.[link.origin_slot]?.linkIds?.[0];
  return originOf(root, [...path, String(node.id)], inner ?? null);
}

/** Return the node that feeds input `slot` of the subgraph at `path`. @param {any} root
 * @param {string[]} path @param {number} slot */
function outside(root, path, slot) {
  const [outer, own] = [path.slice(0, -1), path.at(-1)];
  const host = graphAt(root, outer)?.getNodeById(idOf(own));
  return originOf(root, outer, host?.inputs?.[slot]?.link ?? null);
}

/** @param {any} graph @param {number} id */
export function linkOf(graph, id) {
  return graph?.getLink?.(id) ?? graph?.links?.get?.(id) ?? graph?.links?.[id] ?? null;
}

/**
 * Return the widget of a node's input. If the surrounding subgraph exposes the input at its border,
 * this is the subgraph's widget. Null if another node feeds the input.
 * @param {any} root @param {string[]} path @param {any} node @param {string} name
 * @returns {any}
 */
export function widgetOf(root, path, node, name) {
  const input = node.inputs?.find((/** @type {any} */ each) => each.name === name);
  const link = input?.link == null ? null : linkOf(graphAt(root, path), input.link);
  if (!link) return node.widgets?.find((/** @type {any} */ each) => each.name === name) ?? null;
  if (String(link.origin_id) !== SUBGRAPH_INPUT) return null;
  const host = graphAt(root, path.slice(0, -1))?.getNodeById(idOf(path.at(-1)));
  const border = host?.inputs?.[link.origin_slot];
  return border ? widgetOf(root, path.slice(0, -1), host, border.name) : null;
}

/** Write a widget as one change that the host can undo. @param {any} node @param {any} widget @param {any} value */
export function writeWidget(node, widget, value) {
  const { graph } = node;
  graph?.beforeChange?.();
  widget.value = value;
  widget.callback?.(value);
  graph?.afterChange?.();
}
