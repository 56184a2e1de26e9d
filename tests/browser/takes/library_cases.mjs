// @ts-check
/** Which takes a page knows and shows, and what it remembers of them, in Node.js alone. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { copyFileSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { SafeStorage } from "../../../web/player/storage.mjs";
import { LastShown } from "../../../web/player/comfy/lasting/last_shown.mjs";
import { identifyWorkflow } from "../../../web/player/comfy/lasting/workflow_identity.mjs";
import { Library } from "../../../web/player/takes/library.mjs";

/** Return each node's take, newest last. @param {Library} library @param {string} workflow */
function shown(library, workflow) {
  return [...library.newest(workflow)].map(([node, { take }]) => [node, take.token]);
}

test("of several takes of a node the newest counts, and only those of this workflow", () => {
  const library = new Library(/** @type {any} */ ({ request: async () => new Response(null, { status: 404 }) }));
  const hear = (/** @type {string} */ take, /** @type {string} */ node_id, /** @type {string} */ workflow_id) =>
    library.receive("longtake.take", /** @type {any} */ ({ take, node_id, workflow_id }));
  hear("1", "7", "A");
  hear("2", "7", "B");
  hear("3", "12:7", "A");
  hear("4", "7", "A");
  assert.deepEqual(shown(library, "A"), [["12:7", "3"], ["7", "4"]]);
  assert.deepEqual(shown(library, "B"), [["7", "2"]]);
  assert.deepEqual(shown(library, "C"), []);
  library.show("2", "C", "12:7"); // the same graph in another tab, as a subgraph: nothing ran
  assert.deepEqual(shown(library, "C"), [["12:7", "2"]]);
  assert.deepEqual(shown(library, "B"), [["7", "2"]]);
});

test("two nodes alike keep their own takes, and share one when nothing ran", () => {
  const library = new Library(/** @type {any} */ ({ request: async () => new Response(null, { status: 404 }) }));
  for (const [take, node_id] of [["1", "10:7"], ["2", "11:7"]]) {
    library.receive("longtake.take", /** @type {any} */ ({ take, node_id, prompt_id: "P", workflow_id: "A" }));
  }
  for (const node of ["10:7", "11:7"]) library.show("1", "A", node, "P"); // as the host's cache has it
  assert.deepEqual(shown(library, "A").sort(), [["10:7", "1"], ["11:7", "2"]]);
  for (const node of ["10:7", "11:7"]) library.show("1", "A", node, "Q");
  assert.deepEqual(shown(library, "A").sort(), [["10:7", "1"], ["11:7", "1"]]);
});

/** A channel that lets the process end. */
class LaxChannel extends BroadcastChannel {
  /** @param {string} name */
  constructor(name) {
    super(name);
    /** @type {any} */ (this).unref();
  }
}

test("tabs of one server hear of its runs, and those of a server below another path do not", async () => {
  const module = "../../../web/player/takes/tab_sharing.mjs";
  const copies = mkdtempSync(join(tmpdir(), "longtake "));
  const other = join(copies, "tab_sharing.mjs");
  copyFileSync(new URL(module, import.meta.url), other);
  globalThis.BroadcastChannel = LaxChannel;
  /** @type {string[]} */
  const heard = [];
  const tabs = await Promise.all([module, `${module}?again`, pathToFileURL(other).href].map(async (address, tab) => {
    const { shareWithTabs } = await import(address);
    return shareWithTabs({ receive: (/** @type {string} */ type) => heard.push(`${type} in ${tab}`) });
  }));
  tabs[0]("a run", {});
  tabs[2]("another", {});
  while (heard.length < 3) await new Promise((resolve) => setTimeout(resolve, 10));
  tabs[0]("the last", {});
  while (!heard.includes("the last in 1")) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(heard.sort(), ["a run in 0", "a run in 1", "another in 2", "the last in 0", "the last in 1"]);
});

test("a manifest never overwrites what a message said while it was under way", async () => {
  /** @type {(answer: Response) => void} */
  let answer = () => {};
  const request = () => new Promise((resolve) => (answer = resolve));
  const library = new Library(/** @type {any} */ ({ request }));
  const say = (/** @type {string} */ event, /** @type {object} */ said) =>
    library.receive(event, /** @type {any} */ ({ take: "t", node_id: "7", ...said }));
  say("longtake.take", { state: "running" });
  say("longtake.take.chunk", { seq: 0, first_frame: 0, count: 3, bytes: 9 });
  say("longtake.take.chunk", { seq: 1, first_frame: 3, count: 3, bytes: 9 });
  say("longtake.take", { state: "done" });
  answer(Response.json({ v: 1, state: "running", fps: 24, chunks: [{ seq: 0, first_frame: 0, count: 3, bytes: 0 }] }));
  const { take } = library.open("t");
  await new Promise((resolve) => take.listen(() => resolve(null)));
  assert.deepEqual([take.info.state, take.frames, take.chunks[0].bytes], ["done", 6, 0]);
});

test("after a lost connection the runs that began meanwhile are there, and a server begun anew has no old one", async () => {
  const states = new Map([["1", "done"], ["2", "running"]]);
  const request = async (/** @type {string} */ path) => {
    if (path.endsWith("attach")) return Response.json({ takes: [...states.keys()].map((take) => ({ take, node_id: "7" })) });
    const state = states.get(path.split("/").at(-1) ?? "");
    return state ? Response.json({ v: 1, state, workflow_id: "A", chunks: [] }) : new Response(null, { status: 404 });
  };
  const library = new Library(/** @type {any} */ ({ request }));
  library.receive("longtake.take", /** @type {any} */ ({ take: "1", node_id: "7", workflow_id: "A", state: "running" }));
  library.setConnected(false);
  await library.attach("page");
  assert.deepEqual(shown(library, "A"), [["7", "2"]], "queued behind the first, and begun unseen");
  assert.equal(library.open("1").take.info.state, "done");
  states.clear();
  await library.attach("page");
  assert.deepEqual([library.open("2").take.known, library.open("2").take.connected], [false, true]);
});

test("a take that could not be loaded is asked for again, without another message", async (context) => {
  context.mock.method(console, "warn", () => {});
  let [state, answers] = ["running", true];
  const request = async (/** @type {string} */ path) => {
    if (path.endsWith("attach")) return Response.json({ takes: [] });
    return answers ? Response.json({ v: 1, state, chunks: [] }) : new Response(null, { status: 502 });
  };
  const library = new Library(/** @type {any} */ ({ request }));
  library.receive("longtake.take", /** @type {any} */ ({ take: "1", node_id: "7", workflow_id: "A", state: "running" }));
  [state, answers] = ["done", false]; // a proxy whose server is not there yet
  library.setConnected(false);
  await library.attach("page"); // the run's end was told while the connection was lost
  const { take } = library.open("1");
  assert.equal(take.info.state, "running");
  answers = true;
  for (let turns = 0; turns < 2; turns++) library.askForQuiet();
  await new Promise((resolve) => setTimeout(resolve));
  assert.equal(take.info.state, "done");
});

/** A server that has some takes, and a record of what it was asked for. @param {Record<string, object>} takes */
function serverOf(takes) {
  /** @type {string[]} */
  const asked = [];
  const request = async (/** @type {string} */ path) => {
    const token = path.split("/").at(-1) ?? "";
    asked.push(token);
    return takes[token] ? Response.json({ v: 1, node_id: "7", workflow_id: "A", state: "done", chunks: [], ...takes[token] })
      : new Response(null, { status: 404 });
  };
  return { asked, library: new Library(/** @type {any} */ ({ request })) };
}

/** Return what a library recalls once the server has answered. @param {Library} library @param {string[]} tokens */
async function recalled(library, tokens) {
  while (library.recall(tokens) === null) await new Promise((resolve) => setTimeout(resolve));
  return library.recall(tokens)?.map(({ take }) => take.token);
}

test("a page asks once for the takes that another one showed, and newer ones stay newer", async () => {
  const { asked, library } = serverOf({ 1: {}, 2: { state: "running" } });
  library.receive("longtake.take", /** @type {any} */ ({ take: "3", node_id: "7", workflow_id: "A", state: "running" }));
  assert.equal(library.recall(["1"]), null, "the server has not answered");
  assert.deepEqual(await recalled(library, ["gone", "1", "2"]), ["1", "2"]);
  assert.deepEqual(await recalled(library, ["gone"]), []);
  assert.deepEqual(asked.filter((token) => token !== "3").sort(), ["1", "2", "gone"]);
  assert.deepEqual(shown(library, "A"), [["7", "3"]]);
  for (let turns = 0; turns < 2; turns++) library.askForQuiet();
  assert.equal(asked.filter((token) => token === "2").length, 2, "no message comes of a run of a closed page");
});

test("takes that still run are not forgotten for newer ones", () => {
  const { library } = serverOf({});
  const hear = (/** @type {number} */ take, /** @type {string} */ state) => library.receive("longtake.take",
    /** @type {any} */ ({ take: String(take), node_id: String(take), workflow_id: "A", state }));
  for (let take = 0; take < 40; take++) hear(take, take === 20 ? "done" : "running");
  hear(40, "running");
  assert.deepEqual(shown(library, "A").map(([, take]) => Number(take)), Array.from({ length: 41 }, (_, take) => take).filter((take) => take !== 20));
});

test("a graph that the host left without an id of its own gets one, and another keeps its own", () => {
  Object.assign(globalThis, { LiteGraph: { uuidv4: randomUUID } });
  const graphs = ["00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000", "own"].map((id) => ({ id }));
  for (const graph of [...graphs, null]) identifyWorkflow(graph);
  const [one, other, third] = graphs.map(({ id }) => id);
  assert.ok(![other, graphs[2].id, "00000000-0000-0000-0000-000000000000"].includes(one));
  assert.equal(third, "own");
});

/** A browser's storage. @param {Map<string, string>} [held] */
function storage(held = new Map()) {
  return {
    getItem: (/** @type {string} */ key) => held.get(key) ?? null,
    setItem: (/** @type {string} */ key, /** @type {string} */ value) => void held.set(key, value),
  };
}

/** @param {number} number */
const file = (number) => ({ filename: `${number}.mp4`, subfolder: "", type: "output", role: "video" });

test("of each node the last takes and the file saved last are remembered", () => {
  const browser = storage();
  const before = new LastShown(browser);
  for (const [node, number] of /** @type {[string, number][]} */ ([["a", 1], ["b", 2], ["a", 4]])) before.note(node, { file: file(number) });
  before.note("b", { takes: ["1"] });
  const after = new LastShown(browser);
  assert.deepEqual(["a", "b", "c"].map((node) => after.of(node)),
    [{ takes: [], file: file(4) }, { takes: ["1"], file: file(2) }, { takes: [], file: null }]);
});

test("a hundred nodes are remembered", () => {
  const memory = new LastShown(storage());
  const nodes = Array.from({ length: 130 }, (_, number) => `node ${number}`);
  for (const node of nodes) memory.note(node, { takes: ["earlier", node] });
  for (const node of nodes) memory.note(`copy of ${node}`, memory.of("empty"));
  assert.deepEqual(nodes.filter((node) => memory.of(node).takes[1] === node), nodes.slice(30));
});

test("a storage that is full or blocked costs one warning, and the page itself remembers", (context) => {
  const { mock } = context.mock.method(console, "warn", () => {});
  const fail = () => { throw new Error("QuotaExceededError"); };
  for (const open of [() => ({ ...storage(), setItem: fail }), fail]) {
    mock.resetCalls();
    const shown = new LastShown(new SafeStorage(open));
    for (const number of [1, 2]) shown.note("a", { file: file(number) });
    assert.deepEqual([shown.of("a"), shown.of("b")], [{ takes: [], file: file(2) }, { takes: [], file: null }]);
    assert.equal(mock.callCount(), 1);
  }
});

test("what a storage had no room for is read from it again once it has", (context) => {
  context.mock.method(console, "warn", () => {});
  const browser = storage(new Map([["key", "old"]]));
  let isFull = true;
  const kept = new SafeStorage(() => isFull ? { ...browser, setItem: () => { throw new Error("QuotaExceededError"); } } : browser);
  assert.equal(kept.getItem("key"), "old");
  kept.setItem("key", "new");
  assert.deepEqual([kept.getItem("key"), browser.getItem("key")], ["new", "old"]);
  isFull = false;
  kept.setItem("key", "newer");
  browser.setItem("key", "another tab's");
  assert.equal(kept.getItem("key"), "another tab's");
});

test("a damaged memory is forgotten with one warning, and the next clip is remembered", (context) => {
  const { mock } = context.mock.method(console, "warn", () => {});
  for (const damaged of ["", "{\"a\": {\"takes\": [\"1\"", "null", "\"text\"", "{\"a\": null}", "{\"a\": {\"takes\": \"1\"}}"]) {
    mock.resetCalls();
    const shown = new LastShown(storage(new Map([["longtake.previews", damaged]])));
    for (let bind = 0; bind < 2; bind++) assert.deepEqual(shown.of("a"), { takes: [], file: null });
    assert.equal(mock.callCount(), 1, damaged);
    shown.note("a", { takes: ["2"] });
    assert.deepEqual(shown.of("a").takes, ["2"]);
  }
});

test("a node whose file gives it the name of something that every object has is a node like others", () => {
  const shown = new LastShown(storage());
  for (const name of ["constructor", "__proto__", "toString"]) {
    assert.deepEqual(shown.of(name), { takes: [], file: null });
    shown.note(name, { takes: [name] });
    assert.deepEqual(shown.of(name), { takes: [name], file: null });
  }
});
