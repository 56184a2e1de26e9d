// @ts-check
/** The player in ComfyUI: many nodes and one take, many takes and one node. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CanvasPage, PLACES, anySeed, forkInView, onCanvas } from "./comfy.mjs";
import { eventually, useBrowser } from "./harness.mjs";

useBrowser();
const [classic, classicInside, nodes2] = PLACES;

test("a run that finds everything done shows the clip, in another workflow too", onCanvas(classic, async (canvas) => {
  const how = { seed: anySeed() };
  await canvas.run(2, how);
  await canvas.until(({ state }) => state === "done");
  const { take } = await canvas.data();
  await canvas.load();
  await canvas.run(2, how);
  const data = await canvas.until(({ shown }) => Number(shown) >= 0);
  assert.equal(data.take, take);
  canvas.where = classicInside; // another workflow, and the node elsewhere in it: it runs again, over the kept chunks
  await canvas.load();
  await canvas.run(2, how);
  await canvas.until((now) => now.take !== take && now.state === "done");
  await canvas.seesEach(0, 30);
}));

test("a copy of a workflow, as Save As makes one, shows the run; a failure is told in its own workflow", onCanvas(classic, async (canvas) => {
  const { page, root } = canvas;
  const openCopy = async () => {
    await page.evaluate(async (id) => app.loadGraphData({ ...app.graph.serialize(), id }), crypto.randomUUID());
    await canvas.look();
  };
  const ended = (/** @type {string} */ event) => page.evaluate((name) => new Promise((resolve) =>
    window.comfyAPI.api.api.addEventListener(name, () => setTimeout(resolve, 1000), { once: true })), event);
  const returnToFirst = () => canvas.openTab(0);
  const prefix = await canvas.get("LongtakeSaveVideo", "filename_prefix");
  await canvas.set("LongtakeSaveVideo", { filename_prefix: `${prefix}_%width%` });
  await canvas.run(3, { pace: 0.5 });
  const { take } = await canvas.until(({ frames }) => Number(frames) > 0);
  const done = ended("execution_success");
  await openCopy();
  await canvas.until((data) => data.take === take && Number(data.shown) >= 0);
  await done;
  await canvas.until((data) => data.take === take && data.state === "done");
  await returnToFirst();
  await canvas.until((data) => data.take === take && data.state === "done");
  // below that run's file, which only a run can know, since it has the width
  await canvas.set("LongtakeSaveVideo", { filename_prefix: `${prefix}_%width%_00001_.mp4/x` });
  const failed = ended("execution_error");
  await canvas.run(3, { pace: 0.5 });
  await openCopy();
  await failed;
  await canvas.closeDialogs();
  assert.equal(await root.getByText("The run failed").isVisible(), false);
  await returnToFirst();
  await root.getByText(/Save Video \(Stream\): filename_prefix .* needs the folder .*, where a file stands/).waitFor();
}));

test("each workflow that is cleared is another one, and undo brings back the one before", onCanvas(classic, async (canvas) => {
  const { page } = canvas;
  const clear = () => {
    page.once("dialog", (dialog) => dialog.accept());
    return page.evaluate(async () => {
      await app.extensionManager.command.execute("Comfy.ClearWorkflow");
      const { workflow } = await app.graphToPrompt();
      return `${workflow.nodes.length} nodes in ${workflow.id}`;
    });
  };
  await canvas.run(1);
  const { take } = await canvas.until(({ state }) => state === "done");
  const first = await clear();
  assert.match(first, /^0 nodes/);
  await page.evaluate(() => app.extensionManager.command.execute("Comfy.Undo"));
  await canvas.look();
  await canvas.until((data) => data.take === take);
  assert.notEqual(await clear(), first);
}));

test("a tab that is opened in mid-run, after the run's own was closed, shows the run and stops it", onCanvas(classic, async (canvas) => {
  await canvas.run(0, { pace: 0.5 });
  const { take } = await canvas.until(({ frames }) => Number(frames) > 0);
  await canvas.reopen();
  const { frames } = await canvas.until((data) => data.take === take && Number(data.shown) >= 0);
  await canvas.until((data) => Number(data.frames) > Number(frames));
  await canvas.button("Stop").click();
  await canvas.until(({ state }) => state === "stopped");
}));

/** @param {import("./comfy.mjs").CanvasPage} canvas */
async function enclosed(canvas) {
  const { page } = canvas;
  await canvas.run(3, { pace: 0.5 });
  const { take } = await canvas.until(({ frames, shown: frame }) => Number(frames) > 0 && Number(frame) >= 0);
  const before = await canvas.root.elementHandle();
  await page.evaluate(() => {
    const preview = app.graph.nodes.find((/** @type {any} */ node) => node.comfyClass === "LongtakePreview");
    app.graph.convertToSubgraph(new Set([preview]));
  });
  await page.waitForFunction((element) => !element?.isConnected, before);
  await canvas.look();
  await canvas.until((data) => data.take === take && data.state === "done" && Number(data.shown) >= 0);
  await canvas.seesEach(0, 40);
  await canvas.reload();
  await canvas.until((data) => data.take === take && Number(data.shown) >= 0);
  await canvas.run(3); // its own takes come first
  await canvas.until((data) => data.take !== take && data.node.includes(":") && data.state === "done");
}

test("classic: a preview that is enclosed in a subgraph keeps its clip", onCanvas(classic, enclosed));
test("Nodes 2.0: a preview that is enclosed in a subgraph keeps its clip", onCanvas(nodes2, enclosed));

test("undo and another workflow leave the viewer where it was, with what was typed", onCanvas(classic, leftAlone));
test("inside a subgraph undo and another workflow leave the viewer, too", onCanvas(classicInside, leftAlone));

/** @param {CanvasPage} canvas */
async function leftAlone(canvas) {
  const prompt = canvas.root.getByLabel("Prompt from the next chunk on");
  const isAsLeft = async () => {
    const { following, playing } = await canvas.until(({ shown }) => shown === "5");
    assert.deepEqual([following, playing], ["false", "false"]);
    assert.equal(await canvas.button("Loop (O)").getAttribute("aria-pressed"), "true");
    assert.equal(await prompt.inputValue(), "half typed");
  };
  await canvas.run(0, { pace: 0.5 });
  await canvas.until(({ frames }) => Number(frames) >= 21);
  await canvas.slider.press("ArrowLeft");
  await canvas.slider.press("Home");
  for (let step = 0; step < 5; step++) await canvas.slider.press("ArrowRight");
  await canvas.button("Loop (O)").click();
  await canvas.button("Edit prompt").click();
  await prompt.fill("half typed");
  await canvas.moveAndUndo();
  await isAsLeft();
  await canvas.leaveAndReturn();
  await isAsLeft();
  await canvas.button("Stop").click();
  await canvas.until(({ state }) => state === "stopped");
}

test("a graph that is loaded again ends the players inside its subgraphs, whose nodes stay who they are", onCanvas(classicInside, async (canvas) => {
  const { page } = canvas;
  await page.evaluate(() => { // every player listens for the window's blur as long as it lives
    const { addEventListener: add, removeEventListener: remove } = window;
    const count = (/** @type {any[]} */ [type, listener], /** @type {number} */ by) => {
      if (type === "blur" && String(listener).includes("releaseAll")) /** @type {any} */ (window).players += by;
    };
    Object.assign(window, {
      players: 0,
      addEventListener: (/** @type {any[]} */ ...given) => (count(given, 1), add.apply(window, /** @type {any} */ (given))),
      removeEventListener: (/** @type {any[]} */ ...given) => (count(given, -1), remove.apply(window, /** @type {any} */ (given))),
    });
  });
  const state = () => page.evaluate(() => {
    const preview = [...app.rootGraph.subgraphs.values()].flatMap((graph) => graph.nodes)
      .find((/** @type {any} */ node) => node.comfyClass === "LongtakePreview");
    return `${/** @type {any} */ (window).players} more, ${preview.properties.longtake_preview}`;
  });
  const before = await state();
  for (let load = 0; load < 3; load++) { // as every undo does
    await page.evaluate(() => app.loadGraphData(app.rootGraph.serialize(), true, true, app.extensionManager.workflow.activeWorkflow));
    await eventually(state, before);
  }
}));

test("two instances of a subgraph are two takes to choose from", onCanvas(classicInside, async (canvas) => {
  await canvas.page.evaluate(() => {
    const root = app.rootGraph ?? app.graph;
    const host = root.nodes.find((/** @type {any} */ node) => node.subgraph);
    const other = host.clone();
    other.id = -1; // to be given one
    root.add(other);
    const link = root.getLink?.(host.inputs[0].link) ?? root.links.get(host.inputs[0].link);
    root.getNodeById(link.origin_id).connect(link.origin_slot, other, 0);
  });
  await canvas.run(2);
  await canvas.until(({ state, shown }) => state === "done" && Number(shown) >= 0);
  const pick = canvas.root.getByLabel("Take");
  const names = await pick.locator("option").allTextContents();
  assert.equal(names.length, 2);
  await pick.selectOption(names[0]);
  const first = await canvas.until(({ node, shown }) => node === names[0] && Number(shown) >= 0);
  await pick.selectOption(names[1]);
  const second = await canvas.until(({ node, shown }) => node === names[1] && Number(shown) >= 0);
  assert.notEqual(first.take, second.take);
}));

/** @param {import("./comfy.mjs").CanvasPage} canvas */
async function pasted(canvas) {
  const listeners = await canvas.page.evaluate(() => {
    const node = app.graph.nodes.find((/** @type {any} */ each) => each.comfyClass === "LongtakePreview");
    const listen = document.addEventListener;
    let count = 0;
    document.addEventListener = (/** @type {[any, any]} */ ...given) => {
      if (given[0] === "fullscreenchange") count++;
      listen.apply(document, given);
    };
    node.clone();
    document.addEventListener = listen;
    app.canvas.copyToClipboard([node]);
    app.canvas.pasteFromClipboard({ connectInputs: true, position: [node.pos[0] + 460, node.pos[1]] });
    return count;
  });
  assert.equal(listeners, 0, "a copy that the host makes for itself has no player");
  const both = canvas.page.locator("[data-longtake-player]");
  await eventually(() => both.count(), 2);
  const identities = await canvas.page.evaluate(() => app.graph.nodes.map((/** @type {any} */ node) => node.properties.longtake_preview).filter(Boolean));
  assert.equal(new Set(identities).size, 2);
  const [one, other] = [0, 1].map((index) => new CanvasPage(canvas.page, canvas.where, both.nth(index)));
  await one.run(2);
  const { take, node } = await one.until(({ state, shown }) => state === "done" && Number(shown) >= 0);
  const second = await other.until(({ state, shown }) => state === "done" && Number(shown) >= 0);
  assert.notEqual(second.take, take);
  assert.notEqual(second.node, node);
  await one.seesEach(12);
  await other.seesEach(30);
  await one.button(/saved video/).waitFor(); // its file may be closed a moment after its last frame
  const offered = await canvas.page.evaluate((id) => {
    const menu = app.collectNodeMenuItems(app.graph.getNodeById(Number(id)));
    menu.find((/** @type {any} */ item) => /together/.test(item?.content))?.callback();
    return menu.map((/** @type {any} */ item) => item?.content).filter(Boolean);
  }, node);
  assert.deepEqual(offered, ["Save this frame", "Copy this frame", "Open the saved video", "Download the saved video",
    "Start afresh with a new seed", "Prompts on keys",
    "Play all previews from here together"]);
  await other.until(({ shown }) => Number(shown) < 30); // now: on a busy machine the clip soon ends
  await canvas.page.evaluate((id) => {
    navigator.clipboard.write = async () => Promise.reject(new Error("not allowed"));
    const menu = app.collectNodeMenuItems(app.graph.getNodeById(Number(id)));
    menu.find((/** @type {any} */ item) => item?.content === "Copy this frame").callback();
  }, node);
  await canvas.page.getByText(/did not let this page copy the frame/).first().waitFor();
  await Promise.all([one, other].map((each) => each.until(({ shown, playing }) => shown === "32" && playing === "false")));
}

test("classic: a pasted copy has a take of its own, and both play together", onCanvas(classic, pasted));
test("Nodes 2.0: a pasted copy has a take of its own, and both play together", onCanvas(nodes2, pasted));

/** @param {import("./comfy.mjs").CanvasPage} canvas */
async function remembered(canvas) {
  const [attach, takes] = ["**/longtake/attach", "**/longtake/takes/*"];
  await canvas.run(2);
  await canvas.until(({ state }) => state === "done");
  await canvas.button(/Play the saved/).waitFor();
  await canvas.page.route(attach, (route) => route.fulfill({ json: { takes: [] } })); // a server begun anew
  await canvas.page.route(takes, (route) => route.fulfill({ status: 404 }));
  await canvas.reload();
  const video = canvas.root.locator("video");
  await eventually(() => video.evaluate((/** @type {HTMLVideoElement} */ each) => each.videoWidth), 96);
  await canvas.root.getByText("From an earlier run").waitFor();
  assert.equal(await canvas.root.getByText("No video yet").isVisible(), false);
  await canvas.page.unroute(takes);
  await canvas.run(2);
  await canvas.until(({ shown }) => Number(shown) >= 0);
  assert.equal(await video.count(), 0);
  await canvas.until(({ state }) => state === "done");
  await canvas.button(/Play the saved/).waitFor();
  await canvas.page.route(takes, (route) => route.fulfill({ status: 404 }));
  await canvas.page.route("**/view?**", (route) => route.fulfill({ status: 404 })); // and the file removed
  await canvas.reload();
  await canvas.root.getByText("No video yet").waitFor();
  await canvas.page.unroute(attach);
  await canvas.page.unroute(takes);
  await canvas.page.unroute("**/view?**");
}

test("classic: after a restart of the server the saved video is there again", onCanvas(classic, remembered));
test("Nodes 2.0: after a restart of the server the saved video is there again", onCanvas(nodes2, remembered));

/** @param {import("./comfy.mjs").CanvasPage} canvas */
async function shown(canvas) {
  await canvas.run(2);
  await canvas.until(({ state, shown: frame }) => state === "done" && Number(frame) >= 0);
  await canvas.page.evaluate(() => {
    const inside = app.graph.nodes.filter((/** @type {any} */ node) => ["LongtakeSampler", "LongtakeVAEDecode"].includes(node.comfyClass));
    app.graph.convertToSubgraph(new Set(inside));
    const preview = app.graph.nodes.find((/** @type {any} */ node) => node.comfyClass === "LongtakePreview");
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [300 - preview.pos[0], 150 - preview.pos[1]];
    app.canvas.setDirty(true, true);
  });
  await canvas.button(/^Fork the shot/).click();
  await eventually(() => canvas.page.evaluate(forkInView), true);
}

test("classic: a fork within a subgraph is brought into view", onCanvas(classic, shown));
test("Nodes 2.0: a fork within a subgraph is brought into view", onCanvas(nodes2, shown));

const LEAST_PICTURE = 220; // pixels, as in web/player/view/picture_room.mjs

/** @param {import("./comfy.mjs").CanvasPage} canvas */
async function roomy(canvas) {
  const size = (/** @type {number|null} */ height) => canvas.page.evaluate((to) => {
    const node = app.graph.nodes.find((/** @type {any} */ each) => each.comfyClass === "LongtakePreview");
    if (to !== null) node.setSize([node.size[0], to]);
    return node.size[1];
  }, height);
  const picture = () => canvas.root.locator(".lt-stage").evaluate((stage) => stage.clientHeight);
  await size(420);
  await canvas.run(0, { pace: 0.3 });
  await canvas.until(({ shown: frame }) => Number(frame) >= 0);
  await eventually(async () => await picture() < LEAST_PICTURE, true);
  const before = await size(null);
  const button = canvas.button("Edit prompt");
  await button.click();
  await eventually(async () => await picture() >= LEAST_PICTURE, true);
  const opened = await size(null);
  assert.ok(opened > before && opened < before + 200, `${before} ${opened}`);
  const words = canvas.root.getByLabel("Prompt from the next chunk on");
  await words.fill("a blue ball");
  await canvas.button("Apply").click();
  await canvas.root.getByText(/applied at 0:/).waitFor();
  await eventually(async () => await picture() >= LEAST_PICTURE, true);
  const edited = await size(null);
  for (const form of [false, true]) {
    await button.click();
    await eventually(() => words.isVisible(), form);
  }
  assert.equal(await size(null), edited, "it grows once");
  await size(before); // the user wants it low
  const { frames } = await canvas.data();
  await canvas.until((data) => Number(data.frames) > Number(frames) + 24);
  assert.ok(await size(null) < edited - 20);
  await canvas.root.getByRole("button", { name: "Stop", exact: true }).click();
  await canvas.until(({ state }) => state === "stopped");
}

test("classic: the node grows where an opened panel leaves too little of the picture", onCanvas(classic, roomy));
test("Nodes 2.0: the node grows where an opened panel leaves too little of the picture", onCanvas(nodes2, roomy));

test("classic: the wheel scrolls a panel that does not fit its node", onCanvas(classic, async (canvas) => {
  const { page } = canvas;
  const panel = canvas.root.locator(".lt-run-panel");
  const at = () => panel.evaluate((each) => Math.round(each.scrollTop));
  const scale = () => page.evaluate(() => app.canvas.ds.scale);
  await canvas.run(0, { pace: 0.3 });
  await canvas.until(({ frames }) => Number(frames) >= 9);
  await canvas.button("Edit prompt").click();
  await canvas.root.getByLabel("Prompt from the next chunk on").fill("a blue ball");
  await canvas.button("Apply").click();
  await canvas.root.getByText(/applied at 0:/).waitFor();
  await page.evaluate(() => {
    const node = app.graph.nodes.find((/** @type {any} */ each) => each.comfyClass === "LongtakePreview");
    node.setSize([260, 300]);
    app.canvas.setDirty(true, true);
  });
  await eventually(() => panel.evaluate((each) => each.scrollHeight > each.clientHeight + 20), true);
  await panel.evaluate((each) => each.scrollTo(0, 0));
  const zoom = await scale();
  await canvas.button("Stop").hover();
  await page.mouse.wheel(0, 1000);
  await eventually(async () => await at() > 20, true);
  assert.equal(await scale(), zoom, "the canvas stays");
  await page.evaluate(() => window.comfyAPI.api.api.interrupt(null));
  await canvas.until(({ state }) => state === "interrupted");
}));
