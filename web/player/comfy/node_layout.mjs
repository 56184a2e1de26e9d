// @ts-check
/** The layout of this pack's own nodes. Nodes are the host's objects, hence `any`. */
import { fitToText } from "./status_room.mjs";
import { STATUS } from "./status_text.mjs";

const OURS = /^Longtake/;
/** The room for what a run shows in a new node, in canvas pixels: a picture and a text. Nodes 2.0 has some of it where
 * advanced inputs are folded away. A node that grew would cover others.
 * @type {Record<string, {classic: number, vue: number}>} */
const ROOM = { LongtakeSchedule: { classic: 310, vue: 80 }, LongtakeSoundCurve: { classic: 230, vue: 230 } };

/** Whether a node is of this pack. @param {any} node */
export function isOurs(node) {
  return OURS.test(node?.comfyClass ?? "");
}

/** Leave room for a new node's results; show its status text whole, broken between words. @param {any} node */
export function layOut(node) {
  if (!isOurs(node)) return;
  reserve(node);
  const add = node.addCustomWidget;
  node.addCustomWidget = function (/** @type {any} */ widget) {
    if (widget.name === STATUS && widget.props) {
      widget.props.class = "longtake-status"; // the host breaks words
      fitToText(this, widget);
    }
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
