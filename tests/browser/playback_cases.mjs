// @ts-check
/** Frames reach the canvas in time, and the viewer can move between them. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { eventually, onPage, placeOf, slowDown, useBrowser } from "./harness.mjs";

useBrowser();

test("every picture on the canvas is the frame that it says", onPage(async (player) => {
  await player.start({ frames: 48, chunk_s: 0.3 });
  const [seen, end] = [new Set(), Date.now() + player.limitMs];
  for (let data = await player.data(); data.state !== "done" || seen.size <= 6; data = await player.data()) {
    const { number, shown } = await player.picture();
    if (shown >= 0) assert.equal(number, shown);
    seen.add(shown);
    assert.ok(Date.now() < end, `only ${[...seen]}`);
    if (data.state === "done" && data.playing !== "true") await player.button(/^Play/).click(); // a slow look saw few
  }
  await player.sees(47);
}));

test("the first chunk is shown while the second is being made", onPage(async (player) => {
  await player.start({ frames: 24, chunk_s: 60 });
  const data = await player.until(({ shown }) => Number(shown) > 0);
  assert.deepEqual([data.frames, data.state], ["12", "running"]);
}));

test("at the newest frame it waits, and goes on when the next chunk comes", onPage(async (player) => {
  await player.start({ frames: 24, chunk_s: 3, fps: 60 });
  await player.until(({ shown, state }) => shown === "11" && state === "running");
  await player.sees(23);
  assert.equal((await player.data()).following, "true");
}));

/** Test the frames shown after one second of a simulated clock. @param {string} speed
 * @param {number} expected */
function oneSecond(speed, expected) {
  return onPage(async (player) => {
    await player.finished({ frames: 120 });
    await player.slider.press("ArrowRight"); // stepping stops the playing
    await player.root.getByLabel("Playback speed").selectOption(speed);
    await player.slider.press("Home");
    await player.sees(0);
    await player.page.clock.install();
    await player.page.clock.pauseAt(Date.now() + 10_000);
    await player.button(/^Play/).click();
    await player.page.clock.runFor(1020); // the first animation frame starts the clock
    const position = Number(await player.slider.getAttribute("aria-valuenow"));
    assert.ok(Math.abs(position - expected) <= 2, `at frame ${position}`);
  });
}

test("one second shows 16 frames of a 16 fps take", oneSecond("1", 16));
test("one second at four times the speed shows 64 of them", oneSecond("4", 64));

test("scrubbing leaves the live edge and LIVE goes back to it", onPage(async (player) => {
  await player.start({ frames: 120, chunk_s: 1 });
  await player.until(({ frames }) => Number(frames) >= 24);
  await player.scrubTo(5, 120);
  assert.equal((await player.until(({ following }) => following === "false")).following, "false");
  await player.button(/LIVE/).click();
  await player.until(({ following, shown, frames }) => following === "true" && Number(shown) >= Number(frames) - 12);
}));

test("the bar is scrubbed by dragging", onPage(async (player) => {
  await player.finished({ frames: 48 });
  const box = await player.slider.boundingBox();
  assert.ok(box);
  await player.page.mouse.move(box.x + 2, box.y + 12);
  await player.page.mouse.down();
  await player.page.mouse.move(box.x + box.width * 0.5, box.y + 12, { steps: 4 });
  await player.until(({ shown }) => Number(shown) >= 22 && Number(shown) < 30);
  await player.page.mouse.up();
}));

/** Step through a finished take; wait for each step on the canvas.
 * @param {import("./harness.mjs").PlayerPage} player */
async function stepping(player) {
  await player.finished({ frames: 48 });
  await player.slider.press("ArrowRight"); // stepping stops the playing
  await player.slider.press("Home");
  await player.sees(0);
  await player.button(/Next frame/).click();
  await player.sees(1);
  await player.slider.press("ArrowRight");
  await player.sees(2);
  await player.slider.press("ArrowLeft");
  await player.button(/Previous frame/).click();
  await player.sees(0);
  for (const [key, frame] of STEPS) {
    await player.slider.press(key);
    await player.sees(frame);
  }
}

/** @type {[string, number][]} keys, and the frame of 48 in chunks of 12 that each leads to */
const STEPS = [["End", 47], ["PageDown", 36], ["PageDown", 24], ["PageUp", 36], ["Shift+ArrowLeft", 20],
  ["ArrowUp", 21], ["ArrowDown", 20]];

test("buttons and arrow keys step by one frame, page keys by one chunk", onPage(stepping));
test("on a browser that draws seldom and decodes slowly no press is lost", onPage(stepping, { prepare: slowDown }));

test("it stops at the end, plays again from the start, and loops when told", onPage(async (player) => {
  await player.finished({ frames: 24, fps: 30 });
  await player.until(({ playing, shown }) => playing === "false" && shown === "23");
  await player.button("Loop (O)").click();
  await player.button(/Play again/).click();
  await player.until(({ shown }) => Number(shown) >= 20);
  await player.until(({ shown, playing }) => Number(shown) <= 12 && playing === "true");
}));

test("a chunk that the server dropped is a gap that playing skips", onPage(async (player) => {
  await player.page.route("**/chunks/1", (route) => route.fulfill({ status: 410, json: { error: "gone" } }));
  await player.finished({ frames: 48, fps: 30 });
  await player.until(({ playing, shown }) => playing === "false" && shown === "47");
  await player.slider.press("Home");
  for (let press = 0; press < 12; press++) await player.slider.press("ArrowRight");
  await player.until(({ gap }) => gap === "true");
  await player.root.getByText("This part is no longer on the server").waitFor();
  await player.slider.press(" ");
  await player.until(({ shown }) => Number(shown) >= 24);
}, { errors: /410/ }));

test("the bar of a long shot reads its colours once, however much the server has dropped", onPage(async (player) => {
  await player.finished({ frames: 24 });
  const [reads, gap] = await player.page.evaluate(async () => {
    const [{ ScrubBar }, { Take }] = await Promise.all(
      ["view/scrub_bar", "takes/take"].map((name) => import(`/web/player/${name}.mjs`)));
    const take = new Take("long");
    take.chunks = Array.from({ length: 3000 }, (_, seq) => ({ seq, first_frame: 12 * seq, count: 12, bytes: 0 }));
    const bar = new ScrubBar({ take, frame: 0, frames: take.frames, fps: 16, length: take.length });
    document.querySelector("[data-longtake-player]")?.append(bar.element);
    const read = CSSStyleDeclaration.prototype.getPropertyValue;
    let times = 0;
    CSSStyleDeclaration.prototype.getPropertyValue = function (name) {
      times++;
      return read.call(this, name);
    };
    bar.update();
    const middle = bar.canvas.getContext("2d").getImageData(bar.canvas.width >> 1, bar.canvas.height * 13 / 22, 1, 1).data;
    return [times, middle[0] > middle[2] + 100]; // red
  });
  assert.ok(Number(reads) < 20, `${reads} times`);
  assert.equal(gap, true);
}));

test("pictures of half the size fill the same canvas", onPage(async (player) => {
  await player.finished({ frames: 12, width: 832, height: 480 });
  await player.slider.press("End");
  await player.sees(11);
  const { width, height } = await player.picture();
  assert.deepEqual([width, height], [832, 480]);
}));

test("the current frame is saved as a PNG of the video's size", onPage(async (player) => {
  await player.finished({ frames: 24 });
  await player.slider.press("End");
  await player.sees(23);
  const download = player.page.waitForEvent("download");
  await player.button(/Save this frame/).click();
  const file = await download;
  assert.equal(file.suggestedFilename(), "longtake_frame_000023.png");
  const png = await readFile(await file.path());
  assert.equal(png.toString("latin1", 1, 4), "PNG");
  assert.deepEqual([png.readUInt32BE(16), png.readUInt32BE(20)], [192, 128]);
}));

test("the button makes it fullscreen and back", onPage(async (player) => {
  await player.finished({ frames: 12 });
  const full = () => player.root.evaluate((root) => document.fullscreenElement === root);
  await player.button(/Fullscreen/).click();
  await player.page.waitForFunction(() => document.fullscreenElement);
  assert.equal(await full(), true);
  await player.button(/Fullscreen/).click();
  await player.page.waitForFunction(() => !document.fullscreenElement);
}));

test("where the browser has no fullscreen there is no button, and its key does nothing", onPage(async (player) => {
  await player.finished({ frames: 12 });
  await player.button(/^Save this frame/).waitFor();
  assert.equal(await player.button(/Fullscreen/).isVisible(), false);
  await player.slider.press("f");
  await player.root.locator(".lt-stage").dblclick();
}, { prepare: (page) => page.addInitScript(() => {
  Object.defineProperty(Document.prototype, "fullscreenEnabled", { get: () => false });
  Reflect.deleteProperty(Element.prototype, "requestFullscreen");
}) }));

test("hovering the bar shows the time, the prompt and the picture there", onPage(async (player) => {
  await player.finished({ frames: 48, prompts: [[0, "a red ball"], [24, "a blue ball"]] });
  const box = await player.slider.boundingBox();
  assert.ok(box);
  await player.slider.hover({ position: { x: placeOf(box.width, 36, 48), y: 12 } });
  const hover = player.root.locator(".lt-hover");
  await hover.getByText("0:02 · frame 36 · chunk 3").waitFor();
  await hover.getByText("a blue ball").waitFor();
  await hover.locator("canvas").waitFor();
  const text = hover.getByText("frame 36");
  await text.evaluate((line) => { line.textContent = "12:43 · frame 12,345 · chunk 1,234 (dropped)"; });
  assert.ok(await hover.evaluate((box) => box.scrollWidth <= box.clientWidth), "no text leaves the box");
}));

test("the picture under the pointer is fetched soon, and is seen when its bytes come", onPage(async (player) => {
  /** @type {string[]} */
  const fetched = [];
  /** @type {(value?: unknown) => void} */
  let release = () => {};
  const released = new Promise((resolve) => { release = resolve; });
  await player.page.route("**/chunks/*", async (route) => {
    fetched.push(route.request().url().split("/").at(-1) ?? "");
    await released;
    await route.continue();
  });
  await player.start({ frames: 240, first_s: 0, chunk_s: 0 });
  await player.until(({ state, frames }) => state === "done" && frames === "240");
  const box = await player.slider.boundingBox();
  assert.ok(box);
  await player.slider.hover({ position: { x: placeOf(box.width, 100, 240), y: 12 } });
  const hover = player.root.locator(".lt-hover");
  await hover.getByText("frame 100 · chunk 8").waitFor();
  assert.equal(await hover.locator("canvas").isVisible(), false);
  release();
  await hover.locator("canvas").waitFor();
  const before = fetched.slice(0, fetched.indexOf("8"));
  assert.ok(!before.includes("19"), `fetched in the order ${fetched}`); // the newest come first otherwise
}));

/** @type {(value?: unknown) => void} */
let listTakes = () => {};

test("what is under the pointer stays while the page learns of takes", onPage(async (player) => {
  await player.finished({ frames: 48 });
  const box = await player.slider.boundingBox();
  assert.ok(box);
  await player.slider.hover({ position: { x: placeOf(box.width, 36, 48), y: 12 } });
  const hover = player.root.locator(".lt-hover");
  await hover.locator("canvas").waitFor();
  const listed = player.page.waitForResponse("**/longtake/attach");
  listTakes();
  await (await listed).finished();
  await player.page.waitForTimeout(500); // the takes that were listed are asked for too
  assert.ok(await hover.locator("canvas").isVisible());
}, { prepare: (page) => page.route("**/longtake/attach", async (route) => {
  await new Promise((resolve) => { listTakes = resolve; });
  await route.continue();
}) }));

test("the picture over the bar is seen whole, of a portrait shot and in a low player too", onPage(async (player) => {
  await player.finished({ frames: 48, width: 128, height: 512 });
  const hover = player.root.locator(".lt-hover");
  const shape = () => hover.locator("canvas").evaluate((canvas) => canvas.clientHeight / canvas.clientWidth);
  for (const height of [600, 300]) {
    await player.page.evaluate((to) => {
      /** @type {HTMLElement} */ (document.querySelector("main")).style.height = `${to}px`;
    }, height);
    await player.page.mouse.move(5, 5);
    await player.slider.hover({ position: { x: 100, y: 12 } });
    await hover.locator("canvas").waitFor();
    const [outer, inner] = [await player.root.boundingBox(), await hover.boundingBox()];
    assert.ok(outer && inner && inner.y >= outer.y, JSON.stringify([outer, inner]));
    assert.ok(Math.abs(await shape() - 4) < 0.2, `${await shape()}`);
  }
}));

test("the bar shows which earlier frames a chunk recalls", onPage(async (player) => {
  await player.finished({ frames: 48, recalls: true });
  const recalled = () => player.root.locator(".lt-scrub").getAttribute("data-recalled");
  await player.slider.press("Home");
  await eventually(recalled, "");
  await player.slider.press("End");
  await eventually(recalled, "0-16");
  const box = await player.slider.boundingBox();
  assert.ok(box);
  await player.slider.hover({ position: { x: placeOf(box.width, 36, 48), y: 12 } });
  await player.root.locator(".lt-hover").getByText("recalls 0:00-0:01").waitFor();
}));

test("a press on the picture plays and pauses, and two of them fill the screen", onPage(async (player) => {
  await player.finished({ frames: 96 });
  const stage = player.root.getByRole("group", { name: /^Picture/ });
  await player.slider.press("Home");
  await stage.click();
  await player.until(({ playing }) => playing === "false");
  await stage.click();
  await player.until(({ playing }) => playing === "true");
  await stage.dblclick();
  await player.page.waitForFunction(() => document.fullscreenElement !== null);
  await player.until(({ playing }) => playing === "true");
}));

test("when the control with the focus goes, the focus stays in the player", onPage(async (player) => {
  const focused = () => player.page.evaluate(() => document.activeElement?.className);
  await player.start({ frames: 36, chunk_s: 1 });
  await player.until(({ frames }) => Number(frames) >= 12);
  await player.button(/LIVE/).focus();
  await player.until(({ state }) => state === "done");
  await eventually(focused, "lt-stage");
  await player.start({ frames: 1800, chunk_s: 0.4 });
  await player.until(({ frames, state }) => Number(frames) >= 12 && state === "running");
  await player.button("Stop").press("Enter");
  await player.until(({ state }) => state === "stopped");
  await eventually(focused, "lt-stage");
}));
