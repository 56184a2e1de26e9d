// @ts-check
/** The player's logic, in Node.js alone. */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { posix } from "node:path";
import { test } from "node:test";
import { ByteStore } from "../../web/player/takes/byte_store.mjs";
import { Bitmaps } from "../../web/player/view/bitmaps.mjs";
import { PictureRoom } from "../../web/player/view/picture_room.mjs";
import { Playhead } from "../../web/player/view/playhead.mjs";
import { Fetcher } from "../../web/player/takes/fetcher.mjs";
import { forkObstacle, forkWidgets } from "../../web/player/comfy/fork_terms.mjs";
import { latencies } from "../../web/player/status/latencies.mjs";
import { DRIFT_WARNING, driftOf, memory, statsOf, warningsOf } from "../../web/player/status/status_strip.mjs";
import { Take } from "../../web/player/takes/take.mjs";
import { Transport } from "../../web/player/takes/transport.mjs";
import { withDrive } from "../../web/player/comfy/lines/camera_lines.mjs";
import { guidanceOf, hasLine, promptOf, startOf, withLine } from "../../web/player/comfy/lines/prompt_lines.mjs";
import { unpack } from "../../web/player/takes/packed_chunk.mjs";
import { nameOf } from "../../web/player/words.mjs";

/** @param {number[]} sizes */
function packed(sizes) {
  const buffer = new ArrayBuffer(12 + 4 * sizes.length + sizes.reduce((a, b) => a + b, 0));
  const head = new DataView(buffer);
  head.setUint32(0, 0x4c544631);
  head.setUint16(4, 832);
  head.setUint16(6, 480);
  head.setUint32(8, sizes.length);
  sizes.forEach((size, index) => head.setUint32(12 + 4 * index, size));
  return buffer;
}

const WEB = new URL("../../web/", import.meta.url);

/** Return the files that a module imports, including itself. @param {string} name @returns {Set<string>} */
function needed(name, found = new Set([name])) {
  const text = readFileSync(new URL(`player/${name}.mjs`, WEB), "utf8");
  for (const [, path] of text.matchAll(/^import .* from "(\.[^"]+)\.mjs";$/gm)) {
    const other = posix.join(posix.dirname(name), path);
    if (!found.has(other)) needed(other, found.add(other));
  }
  return found;
}

test("the extension asks anew for every module that it loads, and for no other", () => {
  const entry = readFileSync(new URL("longtake.js", WEB), "utf8");
  const listed = [...(/MODULES = \[(.*?)\]/s.exec(entry)?.[1] ?? "").matchAll(/"([\w/]+)"/g)].map(([, name]) => name);
  const used = [...entry.matchAll(/import\("\.\/player\/([\w/]+)\.mjs"\)/g)].map(([, name]) => name);
  const all = used.reduce((found, name) => needed(name, found.add(name)), new Set());
  assert.deepEqual(listed, [...all].sort());
});

test("ComfyUI finds one script to import, since it runs every .js below web/", () => {
  const scripts = readdirSync(WEB, { recursive: true }).filter((name) => String(name).endsWith(".js"));
  assert.deepEqual(scripts, ["longtake.js"]);
});

test("Chinese is in the script of the viewer's country", () => {
  const names = ["zh", "zh-CN", "zh-Hans-HK", "zh-TW", "zh-tw", "zh-HK", "zh-Hant", "zh-Hant-MO", "pt-BR", "de-AT"];
  const chinese = ["zh", "zh", "zh", "zh-TW", "zh-TW", "zh-TW", "zh-TW", "zh-TW"];
  assert.deepEqual(names.map(nameOf), [...chinese, "pt", "de"]);
});

test("a packed chunk is cut into its pictures without copying", () => {
  const buffer = packed([3, 0, 7]);
  const { width, height, bytes, jpegs } = unpack(buffer);
  assert.deepEqual([width, height, bytes], [832, 480, buffer.byteLength]);
  assert.deepEqual(jpegs.map((jpeg) => [jpeg.byteOffset, jpeg.length]), [[24, 3], [27, 0], [27, 7]]);
  assert.ok(jpegs.every((jpeg) => jpeg.buffer === buffer));
});

test("what is no whole chunk is refused", () => {
  assert.throws(() => unpack(new ArrayBuffer(4)), /not a chunk/);
  assert.throws(() => unpack(new TextEncoder().encode("<html>no such page").buffer), /not a chunk/);
  assert.throws(() => unpack(packed([5]).slice(0, -1)));
});

test("time moves the playhead at the take's rate and no further than its frames", () => {
  const head = new Playhead();
  head.advance(0.5, 100, 16, true);
  assert.equal(head.frame(100), 8);
  head.advance(60, 12, 16, true);
  assert.deepEqual([head.frame(12), head.running(12), head.running(24), head.playing], [11, false, true, true]);
  assert.equal(head.frame(24), 12, "the next chunk goes on with its own first frame");
});

test("a finished take ends or loops; a growing one is waited for even with loop on", () => {
  const head = new Playhead();
  head.loop = true;
  head.advance(1, 12, 16, true);
  assert.equal(head.frame(12), 11);
  head.position = 0;
  head.advance(1, 12, 16, false);
  assert.equal(head.frame(12), 4);
  head.loop = false;
  head.advance(1, 12, 16, false);
  assert.deepEqual([head.playing, head.frame(12)], [false, 11]);
  head.toggle(12, false);
  assert.deepEqual([head.playing, head.frame(12)], [true, 0]);
});

test("scrubbing, stepping and pausing leave the live edge; going live returns", () => {
  const head = new Playhead();
  const leaves = [() => head.seek(3, 12), () => head.step(1, 12), () => head.toggle(12, true)];
  for (const leave of leaves) {
    head.goLive(4);
    assert.equal(head.following, true);
    leave();
    assert.equal(head.following, false);
  }
});

test("a frame's chunk is found, also when messages came in another order", () => {
  const take = new Take("t");
  take.update({ prompt_changes: [{ frame: 0, text: "a", edited: false }, { frame: 9, text: "b", edited: true }] });
  for (const seq of [2, 0, 1]) take.add({ seq, first_frame: 9 * seq, count: 9, bytes: 5 });
  assert.deepEqual([0, 8, 9, 26, 27].map((frame) => take.indexAt(frame)), [0, 0, 1, 2, -1]);
  assert.deepEqual([8, 9].map((frame) => take.promptAt(frame)?.text), ["a", "b"]);
  assert.equal(take.frames, 27);
});

test("the store drops what was used least recently, and never what just came", () => {
  const store = new ByteStore(10);
  const chunk = (/** @type {number} */ bytes) => ({ width: 1, height: 1, bytes, jpegs: [] });
  store.put("a", chunk(4));
  store.put("b", chunk(4));
  store.get("a");
  store.put("c", chunk(4));
  assert.deepEqual(["a", "b", "c"].map((key) => store.has(key)), [true, false, true]);
  store.put("huge", chunk(99));
  assert.deepEqual([store.has("huge"), store.has("a"), store.bytes], [true, false, 99]);
});

/** A fetcher over chunks of one byte; `fetched` lists what was asked for. @param {number} cap */
function fetcher(cap) {
  const take = new Take("t");
  for (let seq = 0; seq < 6; seq++) take.add({ seq, first_frame: seq, count: 1, bytes: 1 });
  /** @type {number[]} */
  const fetched = [];
  let [open, most] = [0, 0];
  const chunk = async (/** @type {number} */ seq) => {
    fetched.push(seq);
    most = Math.max(most, ++open);
    await null;
    open--;
    return seq === 4 ? null : { width: 1, height: 1, bytes: 1, jpegs: [new Uint8Array(1)] };
  };
  const made = new Fetcher(take, /** @type {any} */ ({ chunk }), new ByteStore(cap));
  return { made, take, fetched, most: () => most };
}

/** Everything above waits for promises only, so one turn of the event loop is enough. */
const settled = () => new Promise((resolve) => setTimeout(resolve));

test("chunks near the playhead come first, then the others, newest first, one at a time", async () => {
  const { made, fetched, most } = fetcher(100);
  made.request({}, [2, 3]);
  await settled();
  assert.deepEqual([fetched, most()], [[2, 3, 5, 4, 1, 0], 1]);
});

test("nothing is dropped for chunks that nobody looks at, and dropped ones come again", async () => {
  const { made, fetched } = fetcher(4);
  const owner = {};
  made.request(owner, [0, 1, 2, 3]);
  await settled();
  assert.deepEqual(fetched, [0, 5, 4, 3, 2], "one urgent, then as many as fit");
  made.request(owner, [1]);
  await settled();
  assert.deepEqual([made.has(0), made.has(1)], [false, true]);
  made.request(owner, [0]);
  await settled();
  assert.deepEqual(fetched, [0, 5, 4, 3, 2, 1, 0]);
});

test("a chunk that the server has no more is a gap and is not asked for again", async () => {
  const { made, take, fetched } = fetcher(100);
  made.request({}, [4]);
  await settled();
  made.request({}, [4]);
  await settled();
  assert.equal(take.chunks[4].bytes, 0);
  assert.equal(fetched.filter((seq) => seq === 4).length, 1);
});

test("a server that does not answer is asked again after a while, not at every frame", async ({ mock }) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  mock.method(console, "warn", () => {});
  Object.assign(globalThis, { window: globalThis }); // a page's timers
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const { made, fetched } = fetcher(100);
  const chunk = mock.method(made.transport, "chunk", async () => { throw new TypeError("Failed to fetch"); });
  const owner = {};
  const play = async () => {
    for (let frame = 0; frame < 60; frame++) {
      made.request(owner, [2]);
      await turn();
    }
    return chunk.mock.callCount();
  };
  assert.equal(await play(), 1);
  mock.timers.tick(2000);
  assert.equal(await play(), 2);
  made.release(owner); // another take is shown, and then this one again
  assert.equal(await play(), 3);
  chunk.mock.restore();
  mock.timers.tick(2000);
  await play();
  assert.deepEqual([...fetched].sort(), [0, 1, 2, 3, 4, 5]);
});

test("a kept edit is appended to the timeline, or takes the place of what began then", () => {
  assert.equal(withLine("0: a ball\n5: a cube\n", "2.5: a cat"), "0: a ball\n5: a cube\n2.5: a cat");
  assert.equal(withLine("0: a ball\n0:05: a cube,\nspinning\n9: a", "5: a cat"), "0: a ball\n9: a\n5: a cat");
  assert.equal(withLine("a ball\nwithout a time\n5: b", "0: a cat"), "5: b\n0: a cat");
  assert.equal(withLine("", "0: a cat"), "0: a cat");
});

test("an edit of the guidance is kept once, however often it is written", () => {
  const line = "3.75 (guidance 3.5, over 2): a cat";
  const once = withLine("0: a ball\n3.75 s (guidance 2): a cube\nthat spins\n9: a", line);
  assert.equal(once, `0: a ball\n9: a\n${line}`);
  assert.equal(withLine(once, line), once);
  assert.equal(withLine("3.75: a cat", "0:03.75: a dog"), "0:03.75: a dog");
  assert.equal(hasLine(once, line), true);
  assert.equal(hasLine(once, "3.75: a cat"), false);
});

test("a line's time is read as the node reads it", () => {
  const lines = { ".5: a": 0.5, "1:01:02.5: a": 3662.5, "5 sec (over 1): a": 5, "1：05（guidance 2）：a": 65, "１：０５．５：a": 65.5, "3D: a": null, "a: 5": null, "\u200f5\u200b: a": 5 };
  for (const [line, start] of Object.entries(lines)) assert.equal(startOf(line), start, line);
  assert.equal(guidanceOf("5（over 1、guidance 2）：a"), "2");
  assert.equal(promptOf("5（over 1）：a：b，c"), "a：b，c");
});

test("a kept prompt leaves the guidance that is written at its time in force", () => {
  const guided = "0: a ball\n3.75 (guidance 3, over 2): a cat\nthat sleeps";
  assert.equal(withLine(guided, "3.75: a dog"), `${guided}\n3.75: a dog`);
  assert.equal(withLine(guided, "3.75 (guidance 1): a dog"), "0: a ball\n3.75 (guidance 1): a dog");
  const scaled = "0: a\n5 (lora 0.5): a";
  assert.equal(withLine(scaled, "5: b"), `${scaled}\n5: b`);
  assert.equal(withLine(scaled, "5 (guidance 2): b"), `${scaled}\n5 (guidance 2): b`);
  assert.equal(withLine(scaled, "5 (guidance 2, lora -1): b"), "0: a\n5 (guidance 2, lora -1): b");
  const twice = withLine(withLine(guided, "3.75: a dog"), "3.75: a cow");
  assert.equal(twice, `${guided}\n3.75: a cow`);
});

test("only as much drift as the engine warns of is a warning", () => {
  const engine = readFileSync(new URL("../stream/rollout/drift.py", WEB), "utf8");
  assert.equal(Number(/^WARN_ABOVE = ([\d.]+)/m.exec(engine)?.[1]), DRIFT_WARNING);
  const take = new Take("t");
  const said = (/** @type {number|null} */ drift) => warningsOf({ ...take.info, stats: { drift } }, true).length;
  assert.deepEqual([null, 0.07, DRIFT_WARNING, 0.51].map(said), [0, 0, 0, 1]);
});

test("what the run says stands in the status strip, beside the plan that every run of the canvas has", () => {
  const plan = { frames: 9, seconds: 0.6, chunks: 1, kv_bytes: 1, free_bytes: 2, fits: true, text: "fits" };
  const info = { ...new Take("t").info, message: "Memory ran out at 0:12." };
  assert.deepEqual([plan, null].map((each) => warningsOf({ ...info, plan: each }, true)), [[info.message], [info.message]]);
  assert.deepEqual(warningsOf({ ...info, plan, state: "error" }, true), []); // its card says it
});

test("a KV cache that a live edit made larger is not said to be a part of the planned one", () => {
  const MB = 2 ** 20;
  assert.equal(memory(7 * MB, 8 * MB), "7.0 MB of 8.0 MB");
  assert.equal(memory(8 * MB, 8 * MB), "8.0 MB of 8.0 MB");
  assert.equal(memory(15 * MB, 7.3 * MB), "15 MB");
  assert.equal(memory(null, 8 * MB), "8.0 MB planned");
  assert.equal(memory(null, null), null);
});

test("the drift line names the rules that act", () => {
  assert.equal(driftOf({}), null);
  assert.equal(driftOf({ drift: 0.617 }), "0.62");
  assert.equal(driftOf({ memory_rules: "recency 4" }), "not seen, with recency 4");
  assert.equal(driftOf({ drift: 0.6, memory_rules: "recency 4" }), "0.60, with recency 4");
});

test("the status strip has the five latency figures, those that are known", () => {
  const shown = (/** @type {import("../../web/player/types.mjs").Stats} */ stats) => latencies(stats).map(([name, value]) => [name, value]);
  assert.deepEqual(shown({}), []);
  assert.deepEqual(shown({ first_frame_s: 0.314, block_latency_s: null, switch_cost_s: null }), [["first chunk", "0.31 s"]]);
  const all = { first_frame_s: 12.4, block_latency_s: 1.26, real_time_factor: 0.756, continuous_play_rate: 0.9999, switch_cost_s: 0.25 };
  assert.deepEqual(shown(all), [["first chunk", "12 s"], ["block latency", "1.3 s"], ["real-time factor", "0.76"],
    ["continuous play", "99 %"], ["switch cost", "+0.25 s"]]);
  assert.deepEqual(shown({ continuous_play_rate: 0, switch_cost_s: -0.04 }), [["continuous play", "0 %"], ["switch cost", "0.00 s"]]);
  const both = { generator_factor: 0.4, stage_factor: 1.234 };
  assert.deepEqual(shown(both), [["generator and stage", "0.40 + 1.23"]]);
  assert.deepEqual(shown({ generator_factor: 0.4, stage_factor: null }), []);
  assert.ok(latencies(all).every(([, , meaning]) => meaning.length > 10));
});

test("the times of generator and stage are those of the refined take", () => {
  // what the server sends for both: tests/nodes/outputs/test_refined_preview.py
  const base = { frames_per_s: 30, drift: 0.1, generator_factor: 0.4, stage_factor: null };
  const refined = { frames_per_s: 20, drift: null, generator_factor: 0.5, stage_factor: 2.4 };
  assert.deepEqual(statsOf(base, refined), { ...base, generator_factor: 0.5, stage_factor: 2.4 });
  assert.deepEqual(statsOf(base, { generator_factor: null, stage_factor: null }), base);
  assert.deepEqual([statsOf(base), statsOf(base, {}), statsOf(refined)], [base, base, refined]);
});

test("a fork takes the seed that waits, and starts only from what is seen", () => {
  const take = new Take("t");
  const [at, session] = [2, /** @type {any} */ ({ take })];
  assert.deepEqual(forkWidgets(take.info, at), { action: "fork", at });
  take.info.fork_seed = 0;
  assert.deepEqual(forkWidgets(take.info, at), { action: "fork", at, new_seed: 0 });
  const edit = { status: "applied", text: "a", guidance: null, lora: null, seed: null, first_frame: 9, start_s: 1, line: "1: a", error: null };
  take.info.edits = [/** @type {any} */ (edit)];
  assert.match(forkObstacle(session, at, () => false) ?? "", /Keep edit for “1: a” first/);
  assert.equal(forkObstacle(session, at, () => true), null);
  take.info.edits = [/** @type {any} */ ({ ...edit, seed: 7, line: null })];
  assert.match(forkObstacle(session, at, () => true) ?? "", /The edit at 0:01 .* seed 7\./);
  assert.equal(forkObstacle(session, 1, () => true), null, "a fork at the edit replaces it");
  take.info.edits = [/** @type {any} */ ({ ...edit, lora: 0.5, line: "1 (lora 0.5): a" })];
  assert.match(forkObstacle(session, at, () => false) ?? "", /Keep edit for “1 \(lora 0\.5\): a” first/);
  assert.equal(forkObstacle(session, at, () => true), null);
  for (const number of ["lora", "strength", "level", "guidance"]) {
    take.info.edits = [/** @type {any} */ ({ ...edit, text: null, line: null, [number]: 0 })];
    assert.match(forkObstacle(session, at, () => true) ?? "", /The edit at 0:01 changed a number/);
    assert.equal(forkObstacle(session, 1, () => true), null);
  }
});

test("a take of another format is refused in one sentence", async () => {
  for (const [v, state] of /** @type {[number|undefined, string][]} */ ([[1, "done"], [2, "error"], [undefined, "error"]])) {
    const take = new Take("t");
    const manifest = JSON.stringify({ v, take: "t", state: "done", message: null, chunks: [] });
    const server = { request: async () => new Response(manifest), fileUrl: () => null };
    await new Transport(server, take).refresh();
    assert.equal(take.info.state, state);
    assert.equal(take.info.message, state === "error"
      ? "This page and the server run different versions of Longtake; reload the page." : null);
  }
});

test("a kept drive replaces a camera's lines from its first time on", () => {
  const drive = ["2.06: forward 0.5", "4.31: still"];
  const text = "0: forward\n1:30: still\n1 (smooth 1): forward,\nturn right 20\n3: left";
  const kept = "0: forward\n1 (smooth 1): forward,\nturn right 20";
  assert.equal(withDrive(text, drive), `${kept}\n${drive.join("\n")}`);
  assert.equal(withDrive("pan left", drive), `pan left\n${drive.join("\n")}`);
  assert.equal(withDrive("pan left", ["0.00: up"]), "0.00: up");
});

test("a player without a size does not make its node higher; it does once it is seen again", () => {
  /** @type {number[]} */
  const rooms = [];
  const element = { scrollHeight: 0, clientHeight: 0 };
  const stage = { clientHeight: 0 };
  const info = { edits: /** @type {object[]} */ ([]) };
  const reel = { take: { token: "t", info }, place: { makeRoom: (/** @type {number} */ pixels) => rooms.push(pixels) } };
  const drivePad = { driver: { on: false } };
  const hidden = { hidden: true };
  const runControls = { element, form: hidden, keys: { editor: hidden, list: hidden } };
  const player = { element, reel, drivePad, runControls, isFullscreen: () => false };
  const room = new PictureRoom(/** @type {any} */ (player), /** @type {any} */ (stage));
  const update = (/** @type {number} */ height) => {
    stage.clientHeight = height;
    room.update();
  };
  update(300);
  for (let edit = 0; edit < 3; edit++) { // of another program, while the node is collapsed
    info.edits.push({});
    update(0);
  }
  assert.deepEqual(rooms, []);
  update(200);
  update(200);
  assert.deepEqual(rooms, [20]);
});

test("bytes that are no picture are tried once, and others for the same frame again", async (context) => {
  const warn = context.mock.method(console, "warn", () => {});
  let tries = 0;
  const decode = async (/** @type {Blob} */ { size }) => {
    tries++;
    if (size === 1) throw new Error("The source image could not be decoded.");
    return { close() {} };
  };
  Object.assign(globalThis, { createImageBitmap: decode });
  const broken = new Uint8Array(1), whole = new Uint8Array(2);
  let bytes = broken;
  const bitmaps = new Bitmaps(4, () => bytes, (frame) => void (tries < 9 && bitmaps.request([frame]))); // as a player draws again
  bitmaps.request([7]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual([tries, warn.mock.callCount()], [1, 1]);
  bytes = whole;
  bitmaps.request([7]);
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual([tries, bitmaps.count], [2, 1]);
});
