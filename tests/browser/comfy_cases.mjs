// @ts-check
/** The player in ComfyUI: both node renderers, at the root and in a subgraph. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { onCanvas } from "./comfy.mjs";
import { eventually, useBrowser } from "./harness.mjs";

/** @typedef {import("./comfy.mjs").CanvasPage} CanvasPage */

useBrowser();
const classic = { vue: false, subgraph: false };
const classicInside = { vue: false, subgraph: true };
const vue = { vue: true, subgraph: false };
const vueInside = { vue: true, subgraph: true };

/** @param {CanvasPage} canvas */
async function framesAppear(canvas) {
  await canvas.run(3);
  await canvas.until(({ shown }) => Number(shown) >= 12);
  const { number, shown } = await canvas.picture();
  assert.equal(number, shown);
  const { frames, following } = await canvas.until(({ state }) => state === "done");
  assert.equal(following, "true");
  await canvas.sees(Number(frames) - 1);
  const box = await canvas.root.boundingBox();
  assert.ok(box && box.width > 300 && box.height >= 300, JSON.stringify(box));
}

test("classic: frames appear as they are made", onCanvas(classic, framesAppear));
test("classic, in a subgraph: frames appear as they are made", onCanvas(classicInside, framesAppear));
test("Nodes 2.0: frames appear as they are made", onCanvas(vue, framesAppear));
test("Nodes 2.0, in a subgraph: frames appear as they are made", onCanvas(vueInside, framesAppear));

/** @param {CanvasPage} canvas */
async function outlives(canvas) {
  await canvas.run(12);
  const { take } = await canvas.until(({ shown }) => Number(shown) >= 0);
  await canvas.page.waitForFunction(() => [localStorage, sessionStorage].some((store) =>
    Object.values(store).some((kept) => kept.includes("NumberFrames")))); // the page keeps it a moment later
  await canvas.page.reload();
  await canvas.ready();
  await canvas.look();
  assert.equal((await canvas.until(({ shown }) => Number(shown) >= 0)).take, take);
  await canvas.page.evaluate(() => app.extensionManager.command.execute("Comfy.NewBlankWorkflow"));
  await canvas.root.waitFor({ state: "detached" });
  await canvas.page.locator(".workflow-label").nth(-2).click(); // ours; the blank one is the last
  await canvas.look();
  assert.equal((await canvas.until(({ shown }) => Number(shown) >= 0)).take, take);
  await canvas.page.evaluate(() => window.comfyAPI.api.api.socket.close());
  const { frames } = await canvas.until(({ state }) => state === "done");
  await canvas.slider.press("ArrowLeft");
  await canvas.slider.press("End");
  await canvas.sees(Number(frames) - 1);
}

test("classic: it outlives a reload, another workflow and a lost connection", onCanvas(classic, outlives));
test("classic, in a subgraph: it outlives a reload, another workflow and a lost connection", onCanvas(classicInside, outlives));
test("Nodes 2.0: it outlives a reload, another workflow and a lost connection", onCanvas(vue, outlives));
test("Nodes 2.0, in a subgraph: it outlives a reload, another workflow and a lost connection", onCanvas(vueInside, outlives));

/** @param {CanvasPage} canvas */
async function cancelled(canvas) {
  const seed = Math.floor(Math.random() * 1e9);
  await canvas.run(6, seed);
  await canvas.until(({ frames }) => Number(frames) >= 21);
  await canvas.page.evaluate(() => window.comfyAPI.api.api.interrupt(null));
  await canvas.until(({ state }) => state === "interrupted");
  const says = canvas.root.getByText(/Cancelled. Press Run to resume at 00:0\d\./);
  await says.waitFor();
  await canvas.run(6, seed);
  await canvas.until(({ state }) => state === "running");
  await canvas.root.getByText(/Resumed at 0:0\d/).waitFor();
  const { frames } = await canvas.until(({ state }) => state === "done");
  assert.equal(frames, "105");
  await canvas.slider.press("ArrowLeft");
  await canvas.slider.press("Home");
  await canvas.sees(0);
}

test("classic: after Cancel, Run resumes where it says", onCanvas(classic, cancelled));
test("Nodes 2.0, in a subgraph: after Cancel, Run resumes where it says", onCanvas(vueInside, cancelled));

/** @param {CanvasPage} canvas */
async function deleted(canvas) {
  await canvas.run(6);
  await canvas.until(({ shown }) => Number(shown) >= 4);
  const ended = canvas.page.evaluate(() => new Promise((resolve) => {
    window.comfyAPI.api.api.addEventListener("execution_success", () => resolve("success"));
    window.comfyAPI.api.api.addEventListener("execution_error", () => resolve("error"));
  }));
  await canvas.page.evaluate(() => {
    const node = app.canvas.graph.nodes.find((/** @type {any} */ each) => each.comfyClass === "LongtakePreview");
    app.canvas.graph.remove(node);
  });
  await canvas.root.waitFor({ state: "detached" });
  assert.equal(await ended, "success");
}

test("classic: deleting the node in mid-run leaves the run alone", onCanvas(classic, deleted));
test("Nodes 2.0, in a subgraph: deleting the node in mid-run leaves the run alone", onCanvas(vueInside, deleted));

/** @param {CanvasPage} canvas */
async function saved(canvas) {
  const widgets = () => canvas.page.evaluate(() => {
    const root = app.rootGraph ?? app.graph;
    const graphs = [root, ...root.subgraphs.values()];
    return graphs.flatMap((graph) => graph.serialize().nodes)
      .map((/** @type {any} */ node) => [node.type, node.widgets_values ?? [], node.size])
      .sort((/** @type {any} */ one, /** @type {any} */ other) => (String(one) < String(other) ? -1 : 1));
  });
  const before = await widgets();
  const prompt = await canvas.page.evaluate(async () => (await app.graphToPrompt()).output);
  const preview = Object.values(prompt).find((node) => node.class_type === "LongtakePreview");
  assert.deepEqual(Object.keys(preview.inputs), ["frames"]);
  await canvas.page.evaluate(async () => {
    const root = app.rootGraph ?? app.graph;
    await app.loadGraphData(JSON.parse(JSON.stringify(root.serialize())));
  });
  await canvas.look();
  assert.deepEqual(await widgets(), before);
}

test("classic: saving and loading changes no widget and no size", onCanvas(classic, saved));
test("Nodes 2.0: saving and loading changes no widget and no size", onCanvas(vue, saved));

/** @param {CanvasPage} canvas */
async function cached(canvas) {
  await canvas.run(2, 1234);
  await canvas.until(({ state }) => state === "done");
  const { take } = await canvas.data();
  canvas.where.subgraph = true; // another workflow, and the node elsewhere in it
  await canvas.open();
  await canvas.run(2, 1234);
  const data = await canvas.until(({ shown }) => Number(shown) >= 0);
  assert.equal(data.take, take);
}

test("classic: a run that finds everything done shows the clip", onCanvas({ ...classic }, cached));

/** @param {CanvasPage} canvas */
async function twoInstances(canvas) {
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
}

test("classic, in a subgraph: two instances of it are two takes to choose from", onCanvas(classicInside, twoInstances));

/** @param {CanvasPage} canvas */
async function edited(canvas) {
  const timeline = () => canvas.page.evaluate(() => {
    const root = app.rootGraph ?? app.graph;
    const node = root.nodes.find((/** @type {any} */ each) => each.comfyClass === "LongtakePromptTimeline");
    return node.widgets.find((/** @type {any} */ widget) => widget.name === "text").value;
  });
  const before = await timeline();
  await canvas.run(30);
  await canvas.until(({ frames }) => Number(frames) >= 9);
  await canvas.button("Pause run").click();
  await canvas.until(({ state }) => state === "paused");
  await canvas.button("Edit prompt").click();
  await canvas.root.getByLabel("Prompt from the next chunk on").fill("a green cube at night");
  await canvas.button("Apply").click();
  const edits = canvas.root.getByRole("log", { name: "Edits" });
  await edits.getByText("a green cube at night").waitFor();
  assert.equal(await timeline(), before, "an edit alone does not touch the workflow");
  const { frames: paused } = await canvas.data();
  await canvas.button("Resume run").click();
  await edits.getByText(/applied at 0:/).waitFor();
  await canvas.until(({ frames }) => Number(frames) > Number(paused));
  await canvas.button("Keep edit").click();
  await eventually(() => edits.locator(".lt-outcome").textContent(), "Kept in Prompt Timeline");
  assert.match(await timeline(), /\n[\d.:]+: a green cube at night$/);
  await canvas.button("Stop").click();
  const { frames } = await canvas.until(({ state }) => state === "stopped");
  assert.ok(Number(frames) < 480);
}

test("classic: pause, edit, resume, keep the edit, stop", onCanvas(classic, edited));
test("Nodes 2.0, in a subgraph: pause, edit, resume, keep the edit, stop", onCanvas(vueInside, edited));
