// @ts-check
/**
 * Watches one long take as a viewer does, for `longtake bench player`:
 * `node long_take.mjs < PLAN.json > SEEN.json`, with LONGTAKE_URL and LONGTAKE_CHROMIUM.
 * The viewer first follows the run to its end, then clicks the bar at many places.
 */
import { readFileSync } from "node:fs";
import { loadavg } from "node:os";
import { text } from "node:stream/consumers";
import { PlayerPage, URL, launch } from "./harness.mjs";

const { sample_s: sampleS, presses, run } = JSON.parse(await text(process.stdin));
const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: 960, height: 900 } });
  const player = new PlayerPage(page);
  player.limitMs = 600_000;
  await page.addInitScript(countDraws);
  await player.open();
  const seen = { ...await watch(player), ...await press(player) };
  process.stdout.write(JSON.stringify({ ...seen, browser: browser.version() }));
} finally {
  await browser.close();
}

/** Record when each picture is drawn, and the time since a click. */
function countDraws() {
  const drawn = { count: 0, pressed: 0, waits: /** @type {number[]} */ ([]) };
  Object.assign(window, { drawn });
  const draw = CanvasRenderingContext2D.prototype.drawImage;
  CanvasRenderingContext2D.prototype.drawImage = function (/** @type {any[]} */ ...given) {
    draw.apply(this, /** @type {any} */ (given));
    if (this.canvas.className !== "lt-canvas") return;
    drawn.count++;
    if (drawn.pressed) drawn.waits.push((performance.now() - drawn.pressed) / 1000);
    drawn.pressed = 0;
  };
  addEventListener("pointerdown", () => { drawn.pressed = performance.now(); }, { capture: true });
}

/** Follow the run to its end and take samples. @param {PlayerPage} player */
async function watch(player) {
  const { page } = player;
  const protocol = await page.context().newCDPSession(page);
  const system = await browser.newBrowserCDPSession();
  /** @type {Record<string, number[]>} */
  const samples = {};
  const note = (/** @type {Record<string, number>} */ values) => {
    for (const [name, value] of Object.entries(values)) (samples[name] ??= []).push(value);
  };
  await player.start(run);
  await player.until(({ shown }) => Number(shown) >= 0);
  let [at, count, stood] = [performance.now(), await draws(page), Number((await player.data()).shown)];
  for (;;) {
    await page.waitForTimeout(1000 * sampleS);
    const [now, drawn] = [performance.now(), await draws(page)];
    const { state, shown, frames, bitmaps } = await player.data();
    const fps = (drawn - count) / ((now - at) / 1000);
    const drawn_share = Math.min(1, (drawn - count) / Math.max(1, Number(shown) - stood));
    if (state === "done" && Number(shown) >= run.frames - 1) return { samples };
    const { number, shown: said } = await player.picture();
    note({ fps, drawn_share, load: loadavg()[0], ...await heap(protocol), renderer_bytes: await renderer(system), ...await store(page) });
    note({ bitmaps: Number(bitmaps), behind_frames: Number(frames) - 1 - Number(shown), wrong: Number(number !== said) });
    [at, count, stood] = [performance.now(), await draws(page), Number((await player.data()).shown)];
  }
}

/** Click the bar at places spread over the whole take. @param {PlayerPage} player */
async function press(player) {
  await player.slider.press("ArrowLeft");
  const bar = await player.slider.boundingBox();
  let wrong = 0;
  for (let pressed = 0; pressed < presses; pressed++) {
    const frame = Math.floor(((pressed * 0.618) % 1) * run.frames); // far from the last, evenly spread
    await player.scrubTo(frame, run.frames);
    await player.page.evaluate(() => new Promise(requestAnimationFrame)); // then the bar says it
    const stands = Number(await player.slider.getAttribute("aria-valuenow"));
    await player.until(({ shown }) => Number(shown) === stands);
    const apart = Math.abs(stands - frame) * (bar?.width ?? 0) > 2 * run.frames; // by pixels of the bar
    wrong += Number(apart || (await player.picture()).number !== stands);
  }
  const waits = await player.page.evaluate(() => /** @type {any} */ (window).drawn.waits);
  return { press_seconds: waits.slice(-presses), wrong_presses: wrong };
}

/** @param {import("playwright-core").Page} page @returns {Promise<number>} */
function draws(page) {
  return page.evaluate(() => /** @type {any} */ (window).drawn.count);
}

/** Return the heap of scripts, and separately of their buffers. @param {any} protocol */
async function heap(protocol) {
  await protocol.send("HeapProfiler.collectGarbage");
  const { usedSize, backingStorageSize = 0 } = await protocol.send("Runtime.getHeapUsage");
  return { script_bytes: usedSize, buffer_bytes: backingStorageSize };
}

/** Return the largest memory of a renderer process. @param {any} system */
async function renderer(system) {
  const { processInfo } = await system.send("SystemInfo.getProcessInfo");
  const pids = processInfo.filter((/** @type {any} */ each) => each.type === "renderer").map((/** @type {any} */ { id }) => id);
  const held = pids.map((/** @type {number} */ pid) => {
    const [, kib] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return 1024 * Number(kib ?? 0);
  });
  return Math.max(0, ...held);
}

/** @param {import("playwright-core").Page} page */
async function store(page) {
  const held = await (await page.request.get(`${URL}/fake/store`)).json();
  return {
    store_bytes: held.ram_bytes, spilled_bytes: held.disk_bytes, waiting_bytes: held.waiting_bytes,
    server_bytes: held.resident_bytes,
  };
}
