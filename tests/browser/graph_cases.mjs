// @ts-check
/** Graph traversal, in Node.js alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { keepDrive } from "../../web/player/comfy/lines/camera_lines.mjs";
import { emptyHint } from "../../web/player/comfy/empty_hint.mjs";
import { Failures } from "../../web/player/comfy/failures.mjs";
import { addFitLine } from "../../web/player/comfy/fit_line.mjs";
import { decoderOf, jointObstacle, shotOf } from "../../web/player/comfy/fork_terms.mjs";
import { nodeAt, upstream, widgetOf } from "../../web/player/comfy/graph.mjs";
import { insertBefore } from "../../web/player/comfy/insert_node.mjs";
import { isKept, keepLine } from "../../web/player/comfy/lines/kept_lines.mjs";
import { PromptOrigins } from "../../web/player/comfy/prompt_origins.mjs";
import { roomBelow } from "../../web/player/comfy/room_below.mjs";
import { VacantPlaces } from "../../web/player/comfy/lasting/vacant_places.mjs";

/** Timeline 1 -> sampler 2 (in subgraph 12, whose border takes the timeline's text) -> preview 3.
 * @param {number|string} border how the host writes where a subgraph's own inputs come from */
function graphs(border) {
  const inner = {
    nodes: {
      1: { id: 1, comfyClass: "Timeline", inputs: [{ name: "text", link: 9 }] },
      2: { id: 2, comfyClass: "Sampler", inputs: [{ name: "prompts", link: 8 }] },
    },
    links: { 8: { origin_id: 1, origin_slot: 0 }, 9: { origin_id: border, origin_slot: 0 } },
    outputs: [{ linkIds: [7] }],
  };
  const deep = { ...inner, links: { ...inner.links, 7: { origin_id: 2, origin_slot: 0 } } };
  const host = { id: 12, subgraph: graph(deep), inputs: [{ name: "words", link: null }], widgets: [{ name: "words", value: "0: a" }] };
  return graph({
    nodes: { 12: host, 3: { id: 3, inputs: [{ name: "frames", link: 5 }] } },
    links: { 5: { origin_id: 12, origin_slot: 0 } },
  });
}

/** @param {any} parts */
function graph({ nodes, ...rest }) {
  return { ...rest, getNodeById: (/** @type {number} */ id) => nodes[id] ?? null };
}

test("the Prompt Timeline is found through the borders of subgraphs, and so is its text", () => {
  for (const border of [-10, "-10"]) {
    const root = graphs(border);
    assert.equal(nodeAt(root, "12:1")?.comfyClass, "Timeline");
    assert.equal(nodeAt(root, "13:1"), null);
    const found = upstream(root, "3", (node) => node.comfyClass === "Timeline");
    assert.deepEqual(found?.path, ["12"]);
    assert.equal(widgetOf(root, ["12"], found?.node, "text").value, "0: a");
  }
});

test("text that another node makes has no widget to write into", () => {
  const root = graph({
    nodes: { 1: { id: 1, inputs: [{ name: "text", link: 4 }], widgets: [{ name: "text" }] }, 2: { id: 2 } },
    links: { 4: { origin_id: 2, origin_slot: 0 } },
  });
  assert.equal(widgetOf(root, [], nodeAt(root, "1"), "text"), null);
});

/** Sampler 1 -> decoder 2, with a graph that notes what is connected. @param {object} link */
function wired(link) {
  /** @type {any[]} */
  const said = [];
  const connect = (/** @type {string} */ who) => (/** @type {any[]} */ ...to) =>
    said.push([who, ...to.map((each) => each?.id ?? each?.name ?? each)]);
  const made = { id: "new", size: [300, 200], inputs: [{ name: "rollout" }], connect: connect("new") };
  const decode = { id: 2, pos: [100, 50], size: [260, 80], inputs: [{ name: "vae", link: 4 }, { name: "rollout", link: 5 }] };
  const nodes = { 1: { id: 1, connect: connect("1") }, 2: decode };
  const inner = { ...graph({ nodes, links: { 5: link }, inputs: [{ connect: connect("border") }] }), add: () => {} };
  const preview = { pos: [50, 160], size: [420, 460] }; // lies where the new node would
  const aside = { pos: [500, 0], size: [300, 2000] };
  Object.assign(decode, { graph: Object.assign(inner, { nodes: [aside, preview, decode, made] }) });
  return { said, decode, made, litegraph: { createNode: () => made } };
}

test("a node is put into the link that feeds an input, also from a subgraph's border", () => {
  for (const [origin, from] of /** @type {[any, any[]][]} */ ([
    [{ origin_id: 1, origin_slot: 3 }, ["1", 3, "new", 0]],
    [{ origin_id: -10, origin_slot: 0 }, ["border", "rollout", "new"]],
  ])) {
    const { said, decode, made, litegraph } = wired(origin);
    assert.equal(insertBefore(litegraph, decode, "rollout", "Fork"), made);
    assert.deepEqual(said, [from, ["new", 0, 2, 1]]);
    assert.deepEqual(/** @type {any} */ (made).pos, [100, 780], "below the preview, which it would cover");
  }
});

test("a node grows only as far as the next node below it", () => {
  const at = (/** @type {number} */ x, /** @type {number} */ y) => ({ pos: [x, y], size: [100, 50] });
  const node = { pos: [0, 0], size: [100, 200], graph: { nodes: /** @type {any[]} */ ([]) } };
  node.graph.nodes.push(node, at(0, -300), at(100, 240));
  assert.equal(roomBelow(node), Infinity); // others stand above and beside it
  node.graph.nodes.push(at(-50, 500), at(50, 400));
  assert.equal(roomBelow(node), 150);
  node.size = [100, 365];
  assert.equal(roomBelow(node), 0);
});

test("nothing is put where nothing feeds the input", () => {
  const { said, decode, litegraph } = wired({ origin_id: 1, origin_slot: 0 });
  decode.inputs[1].link = /** @type {any} */ (null);
  assert.equal(insertBefore(litegraph, decode, "rollout", "Fork"), null);
  assert.equal(insertBefore(litegraph, decode, "latents", "Fork"), null);
  assert.deepEqual(said, []);
});

/** A loader as the host makes it, with the given widgets. @param {string} comfyClass @param {Record<string, string>} values */
function loader(comfyClass, values) {
  const widgets = Object.entries(values).map(([name, value]) => ({ name, value }));
  return /** @type {any} */ ({
    comfyClass, widgets, size: [200, 160],
    setSize(/** @type {number[]} */ size) { this.size = size; },
    addDOMWidget(/** @type {string} */ name, /** @type {string} */ _, /** @type {any} */ element) {
      const widget = { name, element };
      this.widgets = [...this.widgets, widget];
      return widget;
    },
  });
}

/** A document that makes elements with a text and classes. */
function fakeDocument() {
  const createElement = () => {
    const classes = new Set();
    const toggle = (/** @type {string} */ name, /** @type {boolean} */ on) => (on ? classes.add(name) : classes.delete(name));
    return { textContent: "", classes, classList: { toggle }, setAttribute() {}, append() {} };
  };
  return /** @type {any} */ ({ createElement });
}

const settled = () => new Promise((resolve) => setTimeout(resolve));

test("a loader asks again for a changed widget, and only the newest answer stays", async () => {
  globalThis.document = fakeDocument();
  /** @type {[string, (answer: any) => void][]} */
  const asked = [];
  const request = (/** @type {string} */ path) => new Promise((resolve) => asked.push([path, resolve]));
  const say = (/** @type {number} */ at, /** @type {string} */ text, fits = true) =>
    asked[at][1]({ ok: true, json: async () => ({ text, fits }) });
  const node = loader("LongtakeLoadModel", { model_name: "a b.safetensors", family: "auto" });
  addFitLine(node, /** @type {any} */ (request));
  await settled();
  const [, , { element: line }] = node.widgets;
  assert.deepEqual(asked.map(([path]) => path),
    ["/longtake/fit?node=LongtakeLoadModel&model_name=a+b.safetensors&family=auto"]);
  node.widgets[0].value = "c";
  node.widgets[0].callback("c");
  node.widgets[1].callback("auto"); // two changes of one moment are one question
  await settled();
  assert.equal(asked.length, 2);
  say(1, "c does not fit", false);
  await settled();
  say(0, "a fits");
  await settled();
  assert.equal(line.textContent, "c does not fit");
  assert.ok(line.classes.has("longtake-fit-no"));
  assert.ok(node.size[1] >= 160 + 84);
  node.size = [200, 100]; // a workflow of an older version was opened
  node.onConfigure();
  assert.ok(node.size[1] >= 160 + 84);
  await settled();
  asked[2][1]({ ok: false });
  await settled();
  assert.equal(line.textContent, "ComfyUI does not answer whether this model fits.");
});

test("no other node gets the line of a loader", () => {
  const node = loader("LongtakeSampler", { steps: "4" });
  addFitLine(node, async () => { throw new Error("asked"); });
  assert.equal(node.widgets.length, 1);
});

/** Camera Path 1 -> preview 2. @param {string} moves @param {string} file */
function steered(moves, file) {
  const widgets = [{ name: "moves", value: moves }, { name: "pose_file", value: file }];
  const camera = { id: 1, comfyClass: "LongtakeCameraPath", inputs: [], widgets };
  const root = graph({
    nodes: { 1: camera, 2: { id: 2, inputs: [{ name: "frames", link: 5 }] } },
    links: { 5: { origin_id: 1, origin_slot: 0 } },
  });
  return { root, widgets };
}

test("a drive is kept in the Camera Path before a preview", () => {
  const { root, widgets } = steered("0: forward\n5: still", "");
  assert.equal(keepDrive(root, "2", ["2.06: pan left 22.5"]), null);
  assert.equal(widgets[0].value, "0: forward\n2.06: pan left 22.5");
});

test("a Camera Path that reads a file, or none, is named", () => {
  const { root, widgets } = steered("0: forward", "poses.json");
  assert.match(keepDrive(root, "2", ["2.06: up"]) ?? "", /reads a pose file/);
  assert.equal(widgets[0].value, "0: forward");
  assert.match(keepDrive(graphs(-10), "3", ["0: up"]) ?? "", /No Camera Path is connected/);
});

/** Prompt Timeline 1 -> Fork 2 (in subgraph 12) -> preview 3. @param {object} widgets of the fork @param {object} [more] */
function forkedOnce(widgets, more = {}) {
  const timeline = { id: 1, comfyClass: "LongtakePromptTimeline", inputs: [], widgets: [{ name: "text", value: "0: a red ball" }] };
  const values = { action: "fork", at: 1.4, new_prompt: "", new_seed: -1, new_guidance: -1, ...widgets };
  const fork = {
    id: 2, comfyClass: "LongtakeEditRollout", mode: 0, inputs: [{ name: "rollout", type: "R", link: 4 }], outputs: [{ type: "R" }],
    widgets: Object.entries(values).map(([name, value]) => ({ name, value })), ...more,
  };
  const inner = graph({ nodes: { 1: timeline, 2: fork }, links: { 4: { origin_id: 1, origin_slot: 0 }, 7: { origin_id: 2, origin_slot: 0 } }, outputs: [{ linkIds: [7] }] });
  const root = graph({
    nodes: { 12: { id: 12, subgraph: inner, inputs: [] }, 3: { id: 3, inputs: [{ name: "frames", link: 5 }] } },
    links: { 5: { origin_id: 12, origin_slot: 0 } },
  });
  const chunks = [0, 9, 21, 33].map((first_frame) => ({ first_frame })); // at 0, 0.5625, 1.3125 and 2.0625 s
  const session = /** @type {any} */ ({ take: { chunks, frames: 45, info: { fps: 16 } } });
  return {
    keep: (/** @type {string} */ line) => keepLine(root, "3", session, line),
    isKept: (/** @type {string} */ line) => isKept(root, "3", session, line),
    text: timeline.widgets[0],
  };
}

const LATER = "1.3125: a blue ball", GUIDED = "2.0625 (guidance 2.5): a blue ball", EARLIER = "0.5625: a cube";

test("an edit behind a fork with a prompt of its own is not kept where the fork replaces it", () => {
  for (const widgets of [{ new_prompt: "a green ball" }, { at: -1, new_prompt: "a green ball" }]) {
    const { keep, isKept, text } = forkedOnce(widgets);
    assert.equal(keep(LATER), "A fork replaces this line of the Prompt Timeline. Fork again at 1.3125 s, with this prompt: a blue ball");
    assert.match(keep(GUIDED) ?? "", /Fork again at 2.0625 s, with guidance 2.5 and this prompt: a blue ball$/);
    assert.equal(text.value, "0: a red ball");
    text.value += `\n${LATER}`; // typed by hand, and without effect
    assert.equal(isKept(LATER), false);
  }
});

test("a fork that replaces an edit's guidance refuses that, but no prompt", () => {
  const { keep, isKept } = forkedOnce({ new_guidance: 0 });
  assert.match(keep(GUIDED) ?? "", /^A fork replaces this line/);
  assert.equal(keep(LATER), null);
  assert.equal(isKept(LATER), true);
});

test("an edit is kept where a fork replaces nothing of it", () => {
  for (const [widgets, line, more] of /** @type {[object, string, object?][]} */ ([
    [{ new_prompt: "a green ball" }, EARLIER],
    [{ new_prompt: " \n" }, LATER],
    [{ new_prompt: "a  blue ball\n" }, GUIDED], // says the same
    [{ action: "rewind", new_prompt: "a green ball" }, LATER],
    [{ new_prompt: "a green ball" }, LATER, { mode: 4 }], // bypassed
  ])) {
    const { keep, isKept, text } = forkedOnce(widgets, more);
    assert.equal(keep(line), null);
    assert.equal(text.value, `0: a red ball\n${line}`);
    assert.equal(isKept(line), true);
  }
});

test("a fork whose prompt another node gives is not taken for one without a prompt", () => {
  const link = { inputs: [{ name: "rollout", link: 4 }, { name: "new_prompt", link: 4 }] };
  assert.match(forkedOnce({}, link).keep(LATER) ?? "", /^A fork replaces this line/);
});

test("a bypassed sampler and its timeline get no seed and no line, and bypassed nodes join no shots", () => {
  const of = (/** @type {number} */ id, /** @type {string} */ type, /** @type {object} */ more) => ({ id, comfyClass: `Longtake${type}`, ...more });
  const from = (/** @type {string} */ type, /** @type {number} */ link) => ({ type, link });
  const nodes = {
    1: of(1, "PromptTimeline", {}), 2: of(2, "PromptTimeline", {}), 3: of(3, "Sampler", { inputs: [from("P", 1)] }),
    4: of(4, "Sampler", { mode: 4, inputs: [from("P", 2), from("R", 3)], outputs: [{ type: "R" }] }),
    5: of(5, "VAEDecode", { inputs: [from("R", 4)] }), 6: of(6, "VAEDecode", { inputs: [from("R", 3)] }),
    7: of(7, "SpliceRollouts", { mode: 4, inputs: [from("F", 5), from("F", 6)], outputs: [{ type: "F" }] }),
    8: of(8, "Preview", { inputs: [from("F", 7)] }),
  };
  const links = Object.fromEntries(Object.keys(nodes).map((id) => [id, { origin_id: Number(id), origin_slot: 0 }]));
  const root = graph({ nodes, links });
  const nearest = (/** @type {string} */ type) => upstream(root, "8", ({ comfyClass }) => comfyClass === `Longtake${type}`)?.node.id;
  assert.deepEqual(["Sampler", "PromptTimeline", "VAEDecode"].map(nearest), [3, 1, 5]);
  assert.equal(jointObstacle(root, "8"), null);
  Object.assign(nodes[3], { mode: 2 }); // muted: nothing comes from there
  assert.equal(nearest("PromptTimeline"), undefined);
});

test("a failure is told in the previews of its own workflow, also where another one has the same nodes", () => {
  const root = () => {
    const nodes = [
      { id: 1, title: "Sampler", inputs: [] }, { id: 2, comfyClass: "Preview", inputs: [{ link: 5 }] },
      { id: 3, title: "Save", inputs: [] }, { id: 4, comfyClass: "Preview", inputs: [{ link: 5 }] },
    ];
    const getNodeById = (/** @type {number} */ id) => nodes.find((node) => node.id === id) ?? null;
    return { nodes, getNodeById, links: { 5: { origin_id: 1, origin_slot: 0 } } };
  };
  const [one, other] = [root(), root()];
  const failures = new Failures();
  failures.add("one", { prompt_id: "P", node_id: "3", exception_message: "no name\nmore" });
  const isPreview = (/** @type {any} */ node) => node.comfyClass === "Preview";
  const texts = (/** @type {any} */ graph, /** @type {string} */ workflow) =>
    [...failures.of(graph, workflow, isPreview, () => true)].map(([node, text]) => [node.id, text]);
  assert.deepEqual(texts(other, "other"), []);
  assert.deepEqual(texts(one, "one"), [[2, "Save: no name"], [4, "Save: no name"]]);
  failures.add("one", { prompt_id: "P", node_id: "1", exception_message: "no model" });
  assert.deepEqual(texts(one, "one"), [], "their takes failed with it");
  failures.clear("one");
  assert.deepEqual(texts(one, "one"), []);
});

test("the host tells which workflow a prompt came from, and is asked once", async () => {
  /** @type {string[]} */
  const asked = [];
  const origins = new PromptOrigins(async (path) => {
    asked.push(path);
    return path.endsWith("/gone") ? new Response(null, { status: 404 }) : Response.json({ workflow_id: "A" });
  });
  assert.deepEqual(await Promise.all(["P", "P", "gone"].map((prompt) => origins.of(prompt))), ["A", "A", null]);
  assert.deepEqual(asked, ["/jobs/P", "/jobs/gone"]);
});

test("a run whose workflow could not be asked for once is asked for at its next message", async (context) => {
  context.mock.method(console, "warn", () => {});
  let reachable = false;
  const origins = new PromptOrigins(async () => {
    if (!reachable) throw new TypeError("Failed to fetch");
    return Response.json({ workflow_id: "A" });
  });
  assert.equal(await origins.of("P"), null);
  reachable = true;
  assert.equal(await origins.of("P"), "A");
});

/** A graph of nodes by id, class and sources. @param {[number, string, number[]][]} rows */
function chained(rows) {
  const links = /** @type {Record<number, any>} */ ({});
  const nodes = Object.fromEntries(rows.map(([id, comfyClass, sources]) => [id, {
    id, comfyClass, widgets: [{ name: "text", value: "0: a red ball" }], inputs: sources.map((from) => {
      links[100 * id + from] = { origin_id: from, origin_slot: 0 };
      return { link: 100 * id + from };
    }),
  }]));
  return graph({ nodes, links });
}

test("an edit of joined shots is kept in the timeline of the first one that is generated, however far off", () => {
  const [decode, splice, timeline] = ["LongtakeVAEDecode", "LongtakeSpliceRollouts", "LongtakePromptTimeline"];
  const root = chained([[1, timeline, []], [2, timeline, []], [3, "LongtakeSampler", [1]], [4, "LongtakeLoadLora", [3]],
    [5, decode, [4]], [6, decode, [2]], [7, "LongtakeVideoToFrames", []],
    [8, splice, [5, 6]], [9, "Preview", [8]], [10, splice, [7, 6]], [11, "Preview", [10]], [12, "Preview", [7]]]);
  const session = /** @type {any} */ ({ take: { chunks: [], frames: 0, info: { fps: 16 } } });
  assert.deepEqual(["9", "11", "12"].map((id) => shotOf(root, id)), ["5", "6", "12"]);
  assert.equal(keepLine(root, shotOf(root, "9"), session, "1: a blue ball"), null);
  const texts = ["1", "2"].map((id) => nodeAt(root, id).widgets[0].value);
  assert.deepEqual(texts, ["0: a red ball\n1: a blue ball", "0: a red ball"]);
});

test("a shot is forked where it comes alone, and no time of a splice or a comparison is taken for the shot's own", () => {
  const [decode, splice] = ["LongtakeVAEDecode", "LongtakeSpliceRollouts"];
  /** Class and sources of each node; 6 decodes a shot that continues the splice. @type {[number, string, number[]][]} */
  const rows = [[1, decode, []], [2, decode, []], [3, splice, [1, 2]], [4, "Preview", [3]], [5, "Preview", [1]],
    [6, decode, [3]], [7, "LongtakeUpscale", [6]], [8, "Preview", [7]], [9, "LongtakeCompareRollouts", [1, 2]], [10, "Preview", [9]], [11, "Preview", []]];
  const root = chained(rows);
  const joined = ["4", "5", "8", "10", "11"].filter((id) => jointObstacle(root, id)?.startsWith("Several shots are joined"));
  assert.deepEqual(joined, ["4", "10"]);
  assert.deepEqual(["5", "8", "11"].map((id) => decoderOf(root, id)?.id), [1, 6, undefined]);
});

test("an empty preview says what it lacks: its node is off, or nothing is connected", () => {
  const says = (/** @type {number} */ mode, /** @type {number|null} */ link) => emptyHint({ mode, inputs: [{ link }] });
  assert.match(says(0, null), /^Connect frames/);
  assert.match(says(0, 3), /^Press Run/);
  for (const mode of [2, 4]) assert.match(says(mode, 3), /muted or bypassed/);
});

test("of nodes that undo makes anew in one moment, the last one's element gets the place", () => {
  /** @type {(() => void)[]} */
  let frames = [];
  Object.assign(globalThis, { requestAnimationFrame: (/** @type {() => void} */ draw) => frames.push(draw) });
  const paint = () => { for (const draw of frames.splice(0)) draw(); };
  /** @type {any} */
  const place = { isConnected: true, firstChild: null, append: (/** @type {any} */ element) => (place.firstChild = element) };
  const [old, undone, last] = /** @type {any[]} */ ([{ parentElement: place }, {}, {}]);
  const places = new VacantPlaces();
  places.leave("a", old);
  places.fill("a", undone);
  paint();
  places.leave("a", undone); // never placed
  for (let binds = 0; binds < 2; binds++) places.fill("a", last);
  paint();
  assert.equal(place.firstChild, null, "the host has two frames");
  paint();
  assert.equal(place.firstChild, last);
  place.firstChild = null;
  paint();
  assert.equal(place.firstChild, null);
  places.leave("a", { ...last, parentElement: place });
  places.fill("a", undone);
  places.leave("a", undone); // deleted, and not made anew
  paint();
  paint();
  assert.equal(place.firstChild, null);
});
