// @ts-check
/**
 * Ways through the canvas' graph, also across the borders of subgraphs. Nodes, graphs and links are
 * the host's own objects, hence `any`.
 */

export const SUBGRAPH_INPUT = "-10"; // the origin of a link from a subgraph's own inputs, a number in older hosts

/** The node with an execution id such as "12:3", or null. @param {any} root @param {string|null} id */
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

/** The host's graphs are asked with numbers where ids are numbers. @param {string|undefined} id */
function idOf(id) {
  return id !== undefined && /^\d+$/.test(id) ? Number(id) : id;
}

/**
 * The nearest node upstream of `start` for which `wanted` holds, and where it is.
 * @param {any} root @param {string} start execution id
 * @param {(node: any) => boolean} wanted
 * @returns {{node: any, path: string[]}|null}
 */
export function upstream(root, start, wanted) {
  const path = start.split(":").slice(0, -1);
  const queue = [{ node: nodeAt(root, start), path }];
  const seen = new Set();
  for (let at = queue.shift(); at; at = queue.shift()) {
    const key = [...at.path, at.node?.id].join(":");
    if (!at.node || seen.has(key)) continue;
    seen.add(key);
    if (wanted(at.node)) return at;
    for (const input of at.node.inputs ?? []) {
      const origin = originOf(root, at.path, input.link);
      if (origin) queue.push(origin);
    }
  }
  return null;
}

/**
 * The node that a link comes from, through the borders of subgraphs in both directions.
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

/** What feeds input `slot` of the subgraph that we are in. @param {any} root
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
 * The widget that holds a node's input: its own, or, when the subgraph around it has taken the input
 * to its border, that subgraph's. Null when another node feeds it.
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
