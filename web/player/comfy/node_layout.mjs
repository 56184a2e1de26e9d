// @ts-check
/** The layout of this pack's own nodes. Nodes are the host's objects, hence `any`. */

const OURS = /^Longtake/;
const STATUS = "$$node-text-preview"; // the host's name of the widget with a node's status text
/** What the first run adds below a new node, in canvas pixels: text and a picture. A node that grew would cover others.
 * @type {Record<string, {classic: number, vue: number}>} */
const ROOM = { LongtakeSchedule: { classic: 270, vue: 134 } };

/** Leave room for a new node's results, and break its status text between words. @param {any} node */
export function layOut(node) {
  if (!OURS.test(node.comfyClass ?? "")) return;
  reserve(node);
  const add = node.addCustomWidget;
  node.addCustomWidget = function (/** @type {any} */ widget) {
    if (widget.name === STATUS && widget.props) widget.props.class = "longtake-status"; // the host breaks words
    return add.call(this, widget);
  };
}

/** @param {any} node */
function reserve(node) {
  const room = ROOM[node.comfyClass];
  if (!room) return;
  const { LiteGraph } = /** @type {any} */ (globalThis);
  node.setSize([node.size[0], node.size[1] + (LiteGraph.vueNodesMode ? room.vue : room.classic)]);
}
