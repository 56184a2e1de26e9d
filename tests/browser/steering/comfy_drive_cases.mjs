// @ts-check
/** Driving in ComfyUI: keys on the canvas, the drive kept in its Camera Path, and its chunks found again; prompts on
 * keys beside the host's shortcuts, and in its workflow. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PLACES, anySeed, onCanvas } from "../comfy.mjs";
import { eventually, useBrowser } from "../harness.mjs";

/** @typedef {import("../comfy.mjs").CanvasPage} CanvasPage */

useBrowser();
const PACE = 0.3; // seconds for each chunk of 12 frames: half as long as they play
const PROMPTS = "a ball\na cone 12";

test("classic: a drive is kept in the Camera Path, and the next run finds its chunks", onCanvas(PLACES[0], drivesAndKeeps));
test("Nodes 2.0: a drive is kept in the Camera Path, and the next run finds its chunks", onCanvas(PLACES[2], drivesAndKeeps));

test("classic: a drive kept after Cancel takes the time from banner and button", onCanvas(PLACES[0], keepsAfterCancel));

test("classic: a drive goes on when undo replaces the node", onCanvas(PLACES[0], outlivesUndo));
test("classic, in a subgraph: digits send prompts to the run, and the workflow keeps these", onCanvas(PLACES[1], sendsAndSaves));
test("Nodes 2.0: a drive goes on when undo replaces the node", onCanvas(PLACES[2], outlivesUndo));
test("Nodes 2.0: digits send prompts to the run, and the workflow keeps these", onCanvas(PLACES[2], sendsAndSaves));

/** @param {CanvasPage} canvas */
async function outlivesUndo(canvas) {
  const { page, root } = canvas;
  const made = () => root.locator(".lt-drive").getAttribute("data-made");
  await startsToDrive(canvas, anySeed());
  await page.keyboard.down("ArrowLeft");
  await eventually(made, "pan left 22.5");
  await page.keyboard.up("ArrowLeft");
  await page.evaluate(() => {
    app.graph.beforeChange();
    app.graph.nodes[0].pos = [app.graph.nodes[0].pos[0] - 30, app.graph.nodes[0].pos[1]];
    app.graph.afterChange();
  });
  const before = await root.elementHandle();
  await page.keyboard.press("Control+z");
  await page.waitForFunction((element) => !element?.isConnected, before);
  await canvas.button("Stop driving").waitFor();
  await eventually(made, "still");
  await page.keyboard.down("ArrowRight"); // the new player has the focus of the old one
  await eventually(made, "pan right 22.5");
  await page.keyboard.up("ArrowRight");
  await page.evaluate(() => app.graph.remove(app.graph.nodes.find((/** @type {any} */ node) => node.comfyClass === "LongtakePreview")));
  await root.waitFor({ state: "detached" });
  await page.evaluate(() => window.comfyAPI.api.api.interrupt(null));
}

/** Run a shot with a Camera Path, and press Drive. @param {CanvasPage} canvas @param {number} seed */
async function startsToDrive(canvas, seed) {
  await canvas.page.evaluate(withCamera);
  await canvas.look();
  await canvas.run(60, { seed, pace: PACE });
  await canvas.until(({ shown }) => Number(shown) >= 0);
  await canvas.button(/^Drive$/).click();
}

/** @param {CanvasPage} canvas */
async function keepsAfterCancel(canvas) {
  const { page, root } = canvas;
  await startsToDrive(canvas, anySeed());
  await page.keyboard.down("ArrowLeft");
  await eventually(() => root.locator(".lt-drive").getAttribute("data-made"), "pan left 22.5");
  await page.keyboard.up("ArrowLeft");
  const { frames: begun } = await canvas.data();
  await canvas.until(({ frames }) => Number(frames) >= Number(begun) + 36);
  await page.evaluate(() => window.comfyAPI.api.api.interrupt(null));
  const { frames, take } = await canvas.until(({ state }) => state === "interrupted");
  const banner = root.locator(".lt-banner");
  await eventually(async () => /^Cancelled. Press Run to resume at 0:\d\d\.$/.test(await banner.textContent() ?? ""), true);
  await canvas.button("Keep drive").click();
  await eventually(() => banner.textContent(), "Cancelled. Press Run to resume.");
  await root.getByRole("button", { name: "Resume", exact: true }).click();
  await canvas.until(({ take: now, frames: newer }) => now !== take && Number(newer) >= Number(frames));
  await root.getByText(/Resumed at 0:\d\d/).waitFor(); // what was driven is not made again
  await root.getByRole("button", { name: "Stop", exact: true }).click();
  await canvas.until(({ state }) => state === "stopped");
}

/** @param {CanvasPage} canvas */
async function drivesAndKeeps(canvas) {
  const { page, root } = canvas;
  const seed = anySeed();
  await startsToDrive(canvas, seed);
  await root.getByLabel("When keys act").selectOption("re-plan");
  const pad = root.locator(".lt-drive");
  const made = () => pad.getAttribute("data-made");
  for (const [key, motion] of [["ArrowLeft", "pan left 22.5"], ["ArrowRight", "pan right 22.5"]]) {
    await page.keyboard.down(key);
    await eventually(made, motion);
    await page.keyboard.up(key);
    await eventually(made, "still");
  }
  assert.equal(await canvas.get("LongtakeCameraPath", "moves"), "0: still", "a drive alone does not touch the workflow");
  if (process.env.LONGTAKE_SHOT) await page.screenshot({ path: process.env.LONGTAKE_SHOT });
  await canvas.button("Stop driving").click();
  await root.getByRole("button", { name: "Stop", exact: true }).click();
  const { frames, take } = await canvas.until(({ state }) => state === "stopped");
  await canvas.button("Keep drive").click();
  await pad.getByText("Kept in Camera Path").waitFor();
  const moves = await canvas.get("LongtakeCameraPath", "moves");
  // on a slow machine both taps may fall in one chunk, with nothing between them
  assert.match(moves, /^0: still\n[\d.]+: pan left 22\.5\n([\d.]+: still\n)?[\d.]+: pan right 22\.5\n[\d.]+: still$/);
  await canvas.run(60, { seed, pace: PACE });
  await canvas.until(({ take: now }) => now !== take);
  const end = Math.floor(Number(frames) / 16); // what was driven is not made again
  await root.getByText(`Resumed at ${Math.floor(end / 60)}:${String(end % 60).padStart(2, "0")}`).waitFor();
  await root.getByRole("button", { name: "Stop", exact: true }).click();
  await canvas.until(({ state }) => state === "stopped");
}

/** Give the workflow a model that takes a camera and a Camera Path, in the page. */
function withCamera() {
  const find = (/** @type {string} */ type) => app.graph.nodes.find((/** @type {any} */ node) => node.comfyClass === type);
  const demo = find("LongtakeLoadDemoModel");
  const loader = LiteGraph.createNode("LongtakeLoadModel");
  app.graph.add(loader);
  loader.pos = [demo.pos[0], demo.pos[1] - 500];
  loader.widgets.find((/** @type {any} */ widget) => widget.name === "model_name").value = "demo_with_camera.safetensors";
  for (const id of [...demo.outputs[0].links]) {
    const link = app.graph.links.get(id);
    loader.connect(0, app.graph.getNodeById(link.target_id), link.target_slot);
  }
  const [camera, sampler] = [LiteGraph.createNode("LongtakeCameraPath"), find("LongtakeSampler")];
  app.graph.add(camera);
  camera.pos = [sampler.pos[0], sampler.pos[1] - 500];
  camera.widgets.find((/** @type {any} */ widget) => widget.name === "moves").value = "0: still";
  camera.connect(0, sampler, sampler.inputs.findIndex((/** @type {any} */ input) => input.name === "camera"));
}

/** @param {CanvasPage} canvas */
const field = (canvas) => canvas.root.getByLabel("Prompts on keys, one a line");

/** @param {CanvasPage} canvas */
async function sendsAndSaves(canvas) {
  const { page, root } = canvas;
  const edits = () => root.getByRole("log", { name: "Edits" }).locator(".lt-what").allTextContents();
  await page.evaluate(noteDigits);
  const noted = () => page.evaluate(() => /** @type {any} */ (window).digits.join());
  await canvas.run(60, { pace: PACE });
  await canvas.until(({ frames }) => Number(frames) >= 12);
  await canvas.button("Prompts on keys").click();
  await field(canvas).pressSequentially(PROMPTS);
  assert.deepEqual([await field(canvas).inputValue(), await edits(), await noted()], [PROMPTS, [], ""]);
  await root.locator(".lt-stage").click();
  await page.keyboard.press("2");
  await eventually(async () => String(await edits()), "a cone 12");
  await root.getByText(/^applied/).waitFor(); // a newer edit of the same chunk would replace it
  await page.keyboard.press("1");
  await eventually(async () => String(await edits()), "a ball,a cone 12");
  await root.locator(".lt-prompts").getByRole("button", { name: "1 a ball", pressed: true }).waitFor();
  assert.equal(await noted(), "");
  await page.keyboard.press("3"); // has no prompt
  await eventually(noted, "3");
  await page.evaluate(() => window.comfyAPI.api.api.interrupt(null));
  await canvas.until(({ state }) => state === "interrupted");
  await page.keyboard.press("1"); // of no run
  await eventually(noted, "3,1");
  assert.equal((await edits()).length, 2);
  await field(canvas).press("Control+s");
  const saved = await savedAs(canvas, `prompts on keys ${Date.now()}`);
  await page.evaluate((workflow) => app.loadGraphData(workflow), JSON.parse(saved));
  await canvas.look();
  await canvas.button("Prompts on keys").click();
  assert.equal(await field(canvas).inputValue(), PROMPTS);
}

/** Answer the host's question for a name; return the saved file. @param {CanvasPage} canvas @param {string} name */
async function savedAs({ page }, name) {
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("textbox").fill(name);
  await page.keyboard.press("Enter");
  await dialog.waitFor({ state: "detached" });
  const read = (/** @type {string} */ path) => fetch(`/api/userdata/${encodeURIComponent(path)}`).then((answer) => answer.text());
  return page.evaluate(read, `workflows/${name}.json`);
}

/** Give the host shortcuts on digits, as some packs have, and note which it follows. */
function noteDigits() {
  const page = /** @type {any} */ (window);
  page.digits = [];
  if (page.hasDigits) return;
  page.hasDigits = true;
  const keys = ["1", "2", "3"];
  app.registerExtension({
    name: "test.digits",
    commands: keys.map((key) => ({ id: `Test.Digit${key}`, label: key, function: () => { page.digits.push(key); } })),
    keybindings: keys.map((key) => ({ combo: { key }, commandId: `Test.Digit${key}` })),
  });
}
