// @ts-check
/** The pictures of Schedule and Sound Curve, in Node.js alone. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { ResultPictures } from "../../../web/player/comfy/result_picture.mjs";

/** An element that notes each address that is set. */
class FakeElement {
  /** @type {Record<string, string>} */
  attributes = {};
  /** @type {string[]} */
  loaded = [];
  hidden = false;
  /** @type {Record<string, () => void>} */
  listeners = {};

  /** @param {string} address */
  set src(address) {
    this.attributes.src = address;
    this.loaded.push(address);
  }
  getAttribute(/** @type {string} */ name) { return this.attributes[name] ?? null; }
  setAttribute(/** @type {string} */ name, /** @type {string} */ value) { this.attributes[name] = value; }
  toggleAttribute(/** @type {"hidden"} */ name, /** @type {boolean} */ on) { this[name] = on; }
  addEventListener(/** @type {string} */ name, /** @type {() => void} */ listen) { this.listeners[name] = listen; }
  append(/** @type {any[]} */ ...children) { Object.assign(this, { children }); }
}

/** A Schedule on its own, number 1, and another, number 2, in a subgraph of which 7 and 8 are instances. */
function canvas() {
  const pictures = new ResultPictures();
  const [own, inner] = ["LongtakeSchedule", "LongtakeSchedule"].map((comfyClass) => {
    const node = {
      comfyClass, image: /** @type {any} */ (null),
      addDOMWidget(/** @type {string} */ _, /** @type {string} */ __, /** @type {any} */ frame) {
        [this.image] = frame.children;
        return {};
      },
    };
    pictures.addTo(node);
    return node;
  });
  const subgraph = { getNodeById: (/** @type {number} */ id) => ({ 2: inner })[id] };
  const nodes = { 1: own, 7: { subgraph }, 8: { subgraph } };
  const root = { getNodeById: (/** @type {number} */ id) => nodes[/** @type {1} */ (id)] ?? null };
  return { pictures, root, own, inner };
}

beforeEach(() => { globalThis.document = /** @type {any} */ ({ createElement: () => new FakeElement() }); });

test("a picture is set once, however often the nodes are drawn", () => {
  const { pictures, root, own, inner } = canvas();
  pictures.note("w", "1", "/a");
  for (let i = 0; i < 3; i++) pictures.show(root, "w");
  assert.deepEqual([own.image.loaded, inner.image.loaded], [["/a"], []]);
  pictures.note("w", "1", "/b");
  pictures.show(root, "w");
  assert.deepEqual(own.image.loaded, ["/a", "/b"]);
});

test("instances of a subgraph share a node, which shows the newest picture alone", () => {
  const { pictures, root, inner } = canvas();
  pictures.note("w", "7:2", "/seven");
  pictures.note("w", "8:2", "/eight");
  for (let i = 0; i < 3; i++) pictures.show(root, "w");
  assert.deepEqual(inner.image.loaded, ["/eight"]);
  pictures.note("w", "7:2", "/seven again");
  for (let i = 0; i < 3; i++) pictures.show(root, "w");
  assert.deepEqual(inner.image.loaded, ["/eight", "/seven again"]);
});

test("pictures of another workflow, and of a node that is gone, are not shown", () => {
  const { pictures, root, own } = canvas();
  pictures.note("other", "1", "/other");
  pictures.note("w", "99", "/gone");
  pictures.note("w", "9:2", "/gone too");
  pictures.show(root, "w");
  assert.deepEqual(own.image.loaded, []);
  pictures.show(root, "other");
  assert.deepEqual(own.image.loaded, ["/other"]);
});

test("a node shows no broken picture", () => {
  const { own } = canvas();
  assert.ok(own.image.hidden, "before a run");
  own.image.listeners.load();
  assert.ok(!own.image.hidden);
  own.image.listeners.error();
  assert.ok(own.image.hidden);
});

test("other nodes have no picture", () => {
  const node = { comfyClass: "LongtakeSampler", addDOMWidget: () => assert.fail("a frame was added") };
  new ResultPictures().addTo(node);
});
