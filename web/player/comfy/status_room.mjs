// @ts-check
/** The height of a status text on the classic canvas, which gives each text room for three lines and cuts longer
 * ones. In Nodes 2.0 a text has the height that it needs. Nodes and widgets are the host's objects, hence `any`. */
import { roomBelow } from "./room_below.mjs";

const INSET = 20; // what the classic canvas leaves free above and below an element, together
const { ceil, max, min } = Math;

/** Let a node grow to its status text, as far as no other node stands below it.
 * @param {any} node @param {any} widget its new text */
export function fitToText(node, widget) {
  const least = widget.options.getMinHeight; // the host's
  let height = 0; // that the text needs, in canvas pixels
  widget.options.getMinHeight = () => max(least(), isClassic() ? height : 0);
  /** @param {HTMLElement} box */
  const fit = (box) => {
    if (!isClassic() || !box.offsetHeight) return; // hidden, as the host hides texts when one zooms out
    const needed = neededBy(box) + INSET;
    if (needed === height) return;
    const [before, room] = [node.size[1], roomBelow(node)];
    height = needed;
    node.arrange(); // pictures give what they can spare, then the node grows
    const excess = node.size[1] - before - room;
    if (excess > 0) {
      height -= excess; // the rest of the text can be scrolled
      node.setSize([node.size[0], before + room]);
    }
    node.setDirtyCanvas(true, true);
  };
  /** @type {ResizeObserver|undefined} */
  let observer;
  widget.props.onVnodeMounted = (/** @type {{el: any}} */ { el: box }) => { // the host's page is made with Vue
    observer = new ResizeObserver(() => fit(box));
    observer.observe(box.firstElementChild); // its height changes with the text and with the node's width
  };
  widget.props.onVnodeUnmounted = () => observer?.disconnect();
}

function isClassic() {
  return !(/** @type {any} */ (globalThis).LiteGraph.vueNodesMode);
}

/** Return the height of a box's text in pixels, as wide as without a scroll bar. @param {HTMLElement} box */
function neededBy(box) {
  const { paddingTop, paddingBottom } = getComputedStyle(box);
  box.style.overflowY = "hidden";
  const { offsetHeight } = /** @type {HTMLElement} */ (box.firstElementChild);
  box.style.overflowY = "";
  return ceil(offsetHeight + parseFloat(paddingTop) + parseFloat(paddingBottom));
}
