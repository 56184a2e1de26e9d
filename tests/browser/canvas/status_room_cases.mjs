// @ts-check
/** The height of a status text, in Node.js alone. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { fitToText } from "../../../web/player/comfy/status_room.mjs";

const LEAST = 58; // pixels that the host gives each text
const ABOVE = 142; // pixels of a node above its text

/** A node of this width with a text, and another node below it, so many pixels of `room` away.
 * @param {number} room */
function canvas(room) {
  const widget = { options: { getMinHeight: () => LEAST }, props: /** @type {any} */ ({}) };
  const node = {
    pos: [0, 0], size: [300, ABOVE + LEAST], graph: { nodes: /** @type {any[]} */ ([]) },
    setSize(/** @type {number[]} */ size) { this.size = size; },
    arrange() { this.size[1] = Math.max(this.size[1], ABOVE + widget.options.getMinHeight()); },
    setDirtyCanvas() {},
  };
  const margin = 20, title = 30; // as in room_below.mjs
  node.graph.nodes.push(node, { pos: [0, node.size[1] + room + margin + title], size: [300, 100] });
  fitToText(node, widget);
  const text = { offsetHeight: 0 };
  const box = { offsetHeight: 38, style: {}, firstElementChild: text };
  widget.props.onVnodeMounted({ el: box });
  /** @param {number} height in pixels, with 16 of padding around it */
  const say = (height) => {
    Object.assign(text, { offsetHeight: height - 16 });
    changed();
  };
  return { node, box, widget, say };
}

/** Calls the newest observer. */
let changed = () => {};

beforeEach(() => {
  Object.assign(globalThis, {
    LiteGraph: { vueNodesMode: false },
    getComputedStyle: () => ({ paddingTop: "8px", paddingBottom: "8px" }),
    ResizeObserver: class {
      constructor(/** @type {() => void} */ act) { changed = act; }
      observe() {}
      disconnect() { changed = () => {}; }
    },
  });
});

test("a node grows to its text, and keeps its height for a shorter one", () => {
  const { node, widget, say } = canvas(500);
  say(30);
  assert.deepEqual([node.size[1], widget.options.getMinHeight()], [ABOVE + LEAST, LEAST]);
  say(112);
  assert.deepEqual([node.size[1], widget.options.getMinHeight()], [ABOVE + 132, 132]);
  say(60);
  assert.deepEqual([node.size[1], widget.options.getMinHeight()], [ABOVE + 132, 80]);
});

test("a node does not grow over the one below it", () => {
  const { node, widget, say } = canvas(24);
  for (let i = 0; i < 3; i++) say(112);
  assert.equal(node.size[1], ABOVE + LEAST + 24);
  assert.equal(widget.options.getMinHeight(), LEAST + 24);
});

test("a text that is hidden, or gone, or in Nodes 2.0, has the host's height", () => {
  const { node, box, widget, say } = canvas(500);
  box.offsetHeight = 0;
  say(112);
  assert.equal(node.size[1], ABOVE + LEAST, "zoomed out");
  box.offsetHeight = 38;
  Object.assign(globalThis, { LiteGraph: { vueNodesMode: true } });
  say(112);
  assert.equal(node.size[1], ABOVE + LEAST, "in Nodes 2.0");
  Object.assign(globalThis, { LiteGraph: { vueNodesMode: false } });
  say(112);
  assert.equal(widget.options.getMinHeight(), 132);
  Object.assign(globalThis, { LiteGraph: { vueNodesMode: true } });
  assert.equal(widget.options.getMinHeight(), LEAST, "Nodes 2.0 chosen after that");
  widget.props.onVnodeUnmounted();
  Object.assign(globalThis, { LiteGraph: { vueNodesMode: false } });
  say(200);
  assert.equal(widget.options.getMinHeight(), 132, "gone");
});
