// @ts-check
/** The picture that a node draws of its result. Nodes and graphs are the host's objects, hence `any`.
 *
 * The host's own picture does not stand here: ComfyUI 1.58 draws a node with it and a status text higher than the
 * node's size, over the node below. This one has its room from the start, in every front end and on both canvases. */
import { element } from "../view/dom.mjs";
import { nodeAt } from "./graph.mjs";

/** The least height of each node's picture, in canvas pixels. @type {Record<string, number>} */
const HEIGHTS = { LongtakeSchedule: 150, LongtakeSoundCurve: 150 };
const WIDGET_TYPE = "LONGTAKE_PICTURE"; // the host's widget registry must not contain it
const INSET = 20; // what the classic canvas leaves free above and below an element, together

/** The pictures of this page's runs, and the frames of the nodes that show them. */
export class ResultPictures {
  /** The addresses of pictures by execution id, by workflow. @type {Map<string|null, Map<string, string>>} */
  #addresses = new Map();
  /** @type {WeakMap<any, HTMLImageElement>} by node */
  #images = new WeakMap();

  /** Add the frame to a new node that draws its result. @param {any} node */
  addTo(node) {
    const height = HEIGHTS[node.comfyClass];
    if (!height) return;
    const image = /** @type {HTMLImageElement} */ (element("img", { alt: "", hidden: true }));
    image.addEventListener("load", () => { image.hidden = false; });
    image.addEventListener("error", () => { image.hidden = true; }); // the host has removed its temporary files
    const frame = element("div", { class: "longtake-picture", style: `min-height: ${height}px` }, image);
    const widget = node.addDOMWidget("picture", WIDGET_TYPE, frame, {
      serialize: false, // not in the prompt
      hideInPanel: true, // an element can only be in one place
      getMinHeight: () => height + INSET,
      getValue: () => "",
      setValue: () => {},
    });
    widget.serialize = false; // not in the workflow
    this.#images.set(node, image);
  }

  /** @param {string|null} workflow @param {string} id execution id @param {string} address of the node's new picture */
  note(workflow, id, address) {
    const known = this.#addresses.get(workflow) ?? new Map();
    known.delete(id); // the newest one comes last
    this.#addresses.set(workflow, known.set(id, address));
  }

  /** Show the pictures of a workflow in its nodes, also in those that an undo has made anew.
   * @param {any} root @param {string|null} workflow */
  show(root, workflow) {
    /** @type {Map<HTMLImageElement, string>} one for each node: instances of a subgraph share theirs */
    const newest = new Map();
    for (const [id, address] of this.#addresses.get(workflow) ?? []) {
      const image = this.#images.get(nodeAt(root, id));
      if (image) newest.set(image, address);
    }
    for (const [image, address] of newest) {
      if (image.getAttribute("src") !== address) image.src = address;
    }
  }
}
