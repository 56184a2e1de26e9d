// @ts-check
/** The same frames twice: small ones at once, and refined ones (larger, negative colours) as they come. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, onPage, useBrowser } from "../harness.mjs";

useBrowser();

const LATER = { frames: 36, chunk_s: 0.05, first_s: 0, refined_s: 1.5 };
const AT_ONCE = { ...LATER, refined_s: 0 };
const DARK = 40; // the red of frames 0, 3, 6 ...; 215 once refined

/** Whether the canvas shows the refined picture of a frame that is a multiple of 3.
 * @param {import("../harness.mjs").PlayerPage} player */
async function isRefined(player) {
  const red = await player.root.evaluate((root) => {
    const canvas = /** @type {HTMLCanvasElement} */ (root.querySelector(".lt-canvas"));
    const { width, height } = canvas;
    return canvas.getContext("2d")?.getImageData(width / 2, height / 4, 1, 1).data[0] ?? -1;
  });
  assert.ok(Math.abs(red - DARK) < 12 || Math.abs(red - 215) < 12, `red is ${red}`);
  return red > 128;
}

/** Stand still at the first frame. @param {import("../harness.mjs").PlayerPage} player */
async function goHome(player) {
  await player.slider.press("ArrowRight"); // stepping stops the playing
  await player.slider.press("Home");
  await player.sees(0);
}

/** @param {import("../harness.mjs").PlayerPage} player */
const button = (player) => player.button(/^Refined frames/);

test("a standing picture becomes the refined one when that comes, at one size", onPage(async (player) => {
  await player.start({ ...LATER, refined_s: 6 }); // long enough to look at what was there before
  await player.until(({ frames }) => frames === "36");
  await goHome(player);
  const { width, height } = await player.picture();
  assert.deepEqual([width, height, await isRefined(player)], [384, 256, false]);
  await eventually(() => isRefined(player), true);
  assert.deepEqual(await player.picture(), { number: 0, shown: 0, width: 384, height: 256 });
}));

test("the button and R show the frames that were refined, and back", onPage(async (player) => {
  await player.finished(AT_ONCE);
  await player.until(({ refined }) => refined === "36");
  await goHome(player);
  await eventually(() => isRefined(player), true);
  await button(player).click();
  await eventually(() => isRefined(player), false);
  assert.equal(await button(player).getAttribute("aria-pressed"), "false");
  await player.slider.press("PageUp");
  await player.sees(12);
  assert.equal((await player.picture()).width, 192);
  assert.equal(await isRefined(player), false);
  await player.slider.press("r");
  await eventually(() => isRefined(player), true);
  await player.sees(12);
}));

test("while both play, every picture is the frame that it says", onPage(async (player) => {
  await player.start({ ...LATER, chunk_s: 0.4, refined_s: 0.3 });
  for (let data = await player.data(); data.state !== "done" || data.playing === "true"; data = await player.data()) {
    const { number, shown } = await player.picture();
    if (shown >= 0) assert.equal(number, shown);
  }
  await player.sees(35);
}));

test("where refining fails, the button says so and the small frames go on", onPage(async (player) => {
  await player.finished({ ...AT_ONCE, refined_chunks: 2 });
  await player.until(({ refined }) => refined === "24");
  await eventually(() => button(player).getAttribute("title"), "Refined frames end at 1.5 s: The device is full.");
  await player.slider.press("End");
  await player.sees(35);
  await goHome(player);
  await player.slider.press("PageUp");
  await player.sees(12);
  await eventually(() => isRefined(player), true);
}));

test("a reload finds both, and one take is offered", onPage(async (player) => {
  const token = await player.start({ ...LATER, chunk_s: 0.5 });
  await player.until(({ refined }) => Number(refined) > 0);
  await player.page.reload();
  await player.until(({ take, refined }) => take === token && refined === "36");
  assert.equal(await player.root.locator(".lt-picker").isVisible(), false);
  await goHome(player);
  await eventually(() => isRefined(player), true);
}));

test("the strip names the times of both, also of what is refined while it is not shown", onPage(async (player) => {
  const facts = player.root.getByLabel("Measurements");
  const both = async () => (await facts.innerText()).match(/generator and stage\s+(.*)/)?.[1];
  await player.start({ ...LATER, refined_s: 1.5 });
  await player.until(({ refined }) => refined === "24");
  await eventually(both, "0.40 + 3.00");
  await player.slider.press("r");
  await eventually(both, "0.40 + 4.00");
}));

test("a take without refined frames has no button", onPage(async (player) => {
  await player.finished({ frames: 12 });
  assert.equal(await button(player).count(), 0);
}));
