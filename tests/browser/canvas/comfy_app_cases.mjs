// @ts-check
/** The player in ComfyUI's app mode, which hides the canvas and shows chosen widgets in a panel. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PLACES, forkInView, onCanvas } from "../comfy.mjs";
import { eventually, useBrowser } from "../harness.mjs";

/** @typedef {import("../comfy.mjs").CanvasPage} CanvasPage */

useBrowser();
const [classic, , nodes2] = PLACES;

/** Return a case in app mode. @param {(canvas: CanvasPage) => Promise<void>} act */
function inAppMode(act) {
  return async (/** @type {CanvasPage} */ canvas) => {
    await toggle(canvas);
    await canvas.page.getByTestId("app-mode-widget-item").first().waitFor();
    await canvas.root.waitFor();
    await act(canvas);
  };
}

/** @param {CanvasPage} canvas */
const toggle = ({ page }) => page.evaluate(() => app.extensionManager.command.execute("Comfy.ToggleLinear"));

/** @param {CanvasPage} canvas */
async function shown(canvas) {
  const items = canvas.page.getByTestId("app-mode-widget-item");
  await eventually(() => items.count(), 4);
  const [prompt, length, seed, player] = await items.all();
  assert.match(await prompt.locator("textarea").inputValue(), /^0: a red ball/);
  assert.equal(Number(await length.locator("input").inputValue()), 10);
  assert.equal(Number(await seed.locator("input").inputValue()), 12);
  assert.equal(await player.locator("[data-longtake-player]").count(), 1);
  await canvas.run(2);
  await canvas.until(({ state, shown: frame }) => state === "done" && Number(frame) >= 0);
  await canvas.page.getByTestId("linear-center-panel").locator("video[controls]").waitFor();
  await toggle(canvas);
  await canvas.look();
  await canvas.seesEach(30);
}

test("classic: app mode shows prompt, length, seed, player and the saved video", onCanvas(classic, inAppMode(shown)));
test("Nodes 2.0: app mode shows prompt, length, seed, player and the saved video", onCanvas(nodes2, inAppMode(shown)));

/** @param {CanvasPage} canvas */
async function whole(canvas) {
  const { page, root } = canvas;
  const size = () => page.evaluate(() =>
    app.graph.nodes.find((/** @type {any} */ node) => node.comfyClass === "LongtakePreview").size[1]);
  const before = await size();
  await canvas.run(0, { pace: 0.3 });
  await canvas.until(({ frames }) => Number(frames) > 0);
  await canvas.button("Edit prompt").click();
  const apply = canvas.button("Apply");
  await apply.waitFor();
  const [outside, form, picture] = await Promise.all([root, apply, root.locator(".lt-stage")].map((each) => each.boundingBox()));
  assert.ok(outside && form && picture);
  assert.ok(form.y + form.height <= outside.y + outside.height, "the player holds its form");
  assert.ok(picture.height >= 220, `${picture.height}`);
  assert.equal(await size(), before, "the node stays as it was");
  await page.evaluate(() => window.comfyAPI.api.api.interrupt(null));
  await canvas.until(({ state }) => state === "interrupted");
  await toggle(canvas);
}

test("in app mode the player is as high as its form needs", onCanvas(nodes2, inAppMode(whole)));

/** @param {CanvasPage} canvas */
async function apart(canvas) {
  const { page, root } = canvas;
  const view = () => page.evaluate(() => [app.canvas.ds.scale, ...app.canvas.ds.offset].join(" "));
  const panel = page.getByTestId("linear-widgets");
  await page.setViewportSize({ width: 1200, height: 500 }); // the player does not fit
  const before = await view();
  await root.locator(".lt-stage").hover();
  await page.mouse.wheel(0, 200);
  await eventually(() => panel.evaluate((each) => each.scrollTop > 20), true);
  assert.equal(await view(), before, "the canvas that nobody sees stays");
  await page.setViewportSize({ width: 1200, height: 800 });
  await toggle(canvas);
}

test("in app mode the wheel over the player scrolls the panel", onCanvas(nodes2, inAppMode(apart)));

/** @param {CanvasPage} canvas */
async function left(canvas) {
  await canvas.run(2);
  await canvas.until(({ state, shown: frame }) => state === "done" && Number(frame) >= 0);
  await canvas.button(/^Fork the shot/).click();
  await canvas.page.locator("#graph-canvas").waitFor();
  await eventually(() => canvas.page.evaluate(forkInView), true);
}

test("classic: a fork in app mode brings the canvas back, and its node into view", onCanvas(classic, inAppMode(left)));
test("Nodes 2.0: a fork in app mode brings the canvas back, and its node into view", onCanvas(nodes2, inAppMode(left)));
