// @ts-check
/** Live Input in ComfyUI: a run asks for the browser's camera, and gets its pictures. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PLACES, onCanvas } from "../comfy.mjs";
import { eventually, useBrowser } from "../harness.mjs";

/** @typedef {import("../comfy.mjs").CanvasPage} CanvasPage */

useBrowser("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream");

test("classic: a run gets the camera's pictures", onCanvas(PLACES[0], redrawsTheCamera));
test("Nodes 2.0: a run gets the camera's pictures", onCanvas(PLACES[2], redrawsTheCamera));

test("classic: a run cancelled before the camera's first picture promises nothing", onCanvas(PLACES[0], cancelsEarly));

/** @param {CanvasPage} canvas */
async function cancelsEarly(canvas) {
  canvas.limitMs = 240_000;
  await canvas.page.evaluate(withCamera);
  await canvas.look();
  await canvas.run(3);
  await canvas.button("Use the camera").waitFor();
  await canvas.page.evaluate(() => window.comfyAPI.api.api.interrupt(null));
  await canvas.until(({ state }) => state === "interrupted");
  await eventually(() => canvas.root.locator(".lt-card strong").textContent(), "Cancelled");
  assert.equal(await canvas.root.locator(".lt-card p").textContent(), "The run generated no frames.");
  assert.equal(await canvas.button(/^Resume|^Start afresh/).count(), 0);
}

/** @param {CanvasPage} canvas */
async function redrawsTheCamera(canvas) {
  canvas.limitMs = 240_000;
  await canvas.page.evaluate(withCamera);
  await canvas.look();
  await canvas.run(3, { pace: 0.5 });
  const pad = canvas.root.locator("[aria-label='Live input']");
  await pad.getByRole("button", { name: "Use the camera" }).click();
  const stop = pad.getByRole("button", { name: "Stop the camera" });
  await stop.waitFor();
  await canvas.moveAndUndo();
  await stop.waitFor();
  await canvas.until(({ state }) => state === "done");
  await eventually(() => pad.isVisible(), false); // pictures are wanted no more
  assert.ok(Number(await pad.getAttribute("data-sent")) >= 10);
}

/** Connect a Live Input that takes the browser's camera, in the page. */
function withCamera() {
  const find = (/** @type {string} */ type) => app.graph.nodes.find((/** @type {any} */ node) => node.comfyClass === type);
  const [demo, sampler] = [find("LongtakeLoadDemoModel"), find("LongtakeSampler")];
  const live = LiteGraph.createNode("LongtakeLiveInput");
  app.graph.add(live);
  live.pos = [sampler.pos[0], sampler.pos[1] - 500];
  live.widgets.find((/** @type {any} */ widget) => widget.name === "source").value = "webcam";
  const slot = (/** @type {any} */ node, /** @type {string} */ name) => node.inputs.findIndex((/** @type {any} */ input) => input.name === name);
  demo.connect(demo.outputs.findIndex((/** @type {any} */ output) => output.type === "VAE"), live, slot(live, "vae"));
  live.connect(0, sampler, slot(sampler, "known_frames"));
}
