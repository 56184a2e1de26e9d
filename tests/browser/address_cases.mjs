// @ts-check
/** The button that copies the address of the live picture, and what the address shows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { URL, onPage, useBrowser } from "./harness.mjs";

useBrowser();

/** The number of the frame that a video at `url` shows after a second of playing.
 * @param {string} url */
async function numberIn(url) {
  const video = document.createElement("video");
  [video.src, video.muted] = [url, true];
  await video.play();
  await new Promise((resolve) => video.addEventListener("timeupdate", () => video.currentTime > 1 && resolve(null)));
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.drawImage(video, 0, 0);
  const row = context.getImageData(0, Math.floor((canvas.height * 5) / 6), canvas.width, 1).data;
  video.src = "";
  let number = 0;
  for (let cell = 0; cell < 16; cell++) {
    number = number * 2 + Number(row[4 * Math.floor(((cell + 0.5) * canvas.width) / 16) + 1] > 128);
  }
  return { number, size: [canvas.width, canvas.height] };
}

test("the address of the live picture is copied, and Chromium plays it as a video", onPage(async (player) => {
  await player.start({ frames: 480, chunk_s: 0.2, grain: 5 });
  await player.until(({ frames }) => Number(frames) >= 24);
  await player.button(/Use in OBS/).click();
  const url = (await player.root.locator(".lt-address code").textContent()) ?? "";
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/longtake\/live\/[\w-]+\/live\.mp4$/);
  const copied = await player.page.evaluate(() => navigator.clipboard.readText());
  assert.equal(copied, url);
  const { number, size } = await player.page.evaluate(numberIn, url);
  assert.deepEqual(size, [192, 128]);
  assert.ok(number > 12 && number < 480, `frame ${number}`);
  assert.ok(!url.includes((await player.data()).take), "the address gives no control of the run");
}, { permissions: ["clipboard-read", "clipboard-write"] }));

test("below a path of a proxy the page shows the run and names addresses there", onPage(async (player) => {
  const { page } = player;
  /** @type {string[]} */
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("websocket", (socket) => asked.push(socket.url()));
  await page.goto(`${URL}/below/`);
  await player.finished({ frames: 24 });
  await player.slider.press("ArrowLeft");
  await player.slider.press("Home");
  await player.sees(0);
  await player.button(/Use in OBS/).click();
  asked.push((await player.root.locator(".lt-address code").textContent()) ?? "");
  const base = new globalThis.URL(`${URL}/below/`);
  const elsewhere = asked.map((url) => new globalThis.URL(url)).filter(({ protocol, host, pathname }) =>
    protocol !== "data:" && (host !== base.host || !pathname.startsWith(base.pathname)));
  assert.deepEqual(elsewhere.map(({ pathname }) => pathname), ["/fake/run"]);
  assert.ok(asked.some((url) => url.startsWith("ws:")));
}));

test("where the browser refuses the clipboard, the address is there to be copied", onPage(async (player) => {
  await player.finished({ frames: 24 });
  await player.button(/Use in OBS/).click();
  await player.root.getByText("Copy this address").waitFor();
}, { prepare: (page) => page.addInitScript(() => {
  Object.defineProperty(navigator, "clipboard", { value: undefined });
}) }));
