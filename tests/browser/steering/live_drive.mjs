// @ts-check
/**
 * Drives one run as a person does, for `longtake bench drive`:
 * `node live_drive.mjs < PLAN.json > SEEN.json`, with LONGTAKE_URL and LONGTAKE_CHROMIUM.
 * PLAN.json: `mode`, `rest_s`, and `phases`, each with a `speed` and its presses.
 */
import { loadavg } from "node:os";
import { text } from "node:stream/consumers";
import { PlayerPage, launch } from "../harness.mjs";

/** @typedef {{code: string, still_s: number, hold_s: number}} Press */
/** @typedef {{speed: number, presses: Press[]}} Phase */
/** @type {{mode: string, rest_s: number, phases: Phase[]}} */
const plan = JSON.parse(await text(process.stdin));
const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: 960, height: 900 } });
  const player = new PlayerPage(page);
  player.limitMs = 120_000;
  await page.addInitScript(record);
  await player.open();
  await page.evaluate(recordLatencies);
  await player.until(({ shown }) => Number(shown) >= 0);
  await player.button(/^Drive$/).click();
  await player.root.getByLabel("When keys act").selectOption(plan.mode);
  const phases = [];
  for (const phase of plan.phases) phases.push(await drive(player, phase));
  const { frames, shown } = await player.data();
  await player.root.getByRole("button", { name: "Stop", exact: true }).click();
  await player.until(({ state }) => state === "stopped");
  const seen = { phases, frames: Number(frames), shown: Number(shown), replanned: await fact(player, "replanned") };
  process.stdout.write(JSON.stringify({ ...seen, browser: browser.version() }));
} finally {
  await browser.close();
}

/**
 * Press the keys of a phase at its playback speed; the first draws and keys are those of the rest before.
 * @param {PlayerPage} player @param {Phase} phase
 */
async function drive(player, { speed, presses }) {
  const { page } = player;
  await player.root.getByLabel("Playback speed").selectOption(String(speed));
  await player.root.locator(".lt-stage").focus();
  await page.waitForTimeout(1000 * plan.rest_s);
  await page.evaluate(() => /** @type {any} */ (window).recorded.clear());
  const loads = [loadavg()[0]];
  for (const { code, still_s, hold_s } of presses) {
    await page.waitForTimeout(1000 * still_s);
    await page.keyboard.down(code);
    await page.waitForTimeout(1000 * hold_s);
    await page.keyboard.up(code);
  }
  await page.waitForTimeout(1000 * plan.rest_s);
  const seen = await page.evaluate(() => /** @type {any} */ (window).recorded.read());
  return { ...seen, load: Math.max(...loads, loadavg()[0]) };
}

/** @param {PlayerPage} player @param {string} name */
async function fact(player, name) {
  return Number(await player.root.locator(".lt-drive").getAttribute(`data-${name}`));
}

/** Record the grey pixels of each picture as it is drawn, and each change of a key; runs in the page. */
function record() {
  const recorded = {
    /** @type {number[]} milliseconds */ draws: [],
    /** @type {Uint8Array[]} */ greys: [],
    /** @type {{code: string, down: boolean, at: number}[]} */ keys: [],
    /** @type {{at: number, ms: number}[]} what the player itself measures, from `at` on */ latencies: [],
    size: [0, 0],
    reading_ms: 0, // what looking at the pixels has cost the page
    clear() {
      for (const list of [recorded.draws, recorded.greys, recorded.keys, recorded.latencies]) list.length = 0;
      recorded.reading_ms = 0;
    },
    read() {
      const { draws, keys, latencies, size, reading_ms, greys } = recorded;
      return { draws, keys, latencies, size, reading_ms, pixels: greys.map(toBase64) };
    },
  };
  Object.assign(window, { recorded });
  const draw = CanvasRenderingContext2D.prototype.drawImage;
  CanvasRenderingContext2D.prototype.drawImage = function (/** @type {any[]} */ ...given) {
    draw.apply(this, /** @type {any} */ (given));
    if (this.canvas.className !== "lt-canvas") return;
    const now = performance.now();
    const { width, height } = this.canvas;
    recorded.draws.push(now);
    recorded.greys.push(grey(this.getImageData(0, 0, width, height).data));
    recorded.size = [width, height];
    recorded.reading_ms += performance.now() - now;
  };
  for (const type of ["keydown", "keyup"]) {
    addEventListener(type, (event) => {
      const { code, repeat, timeStamp: at } = /** @type {KeyboardEvent} */ (event);
      if (!repeat) recorded.keys.push({ code, down: type === "keydown", at });
    }, { capture: true });
  }

  /** @param {Uint8ClampedArray} data red, green, blue and alpha of each pixel */
  function grey(data) {
    const values = new Uint8Array(data.length / 4);
    for (let i = 0, at = 0; i < values.length; i++, at += 4) {
      values[i] = (data[at] + 2 * data[at + 1] + data[at + 2]) >> 2;
    }
    return values;
  }

  /** @param {Uint8Array} values */
  function toBase64(values) {
    return btoa(Array.from(values, (value) => String.fromCharCode(value)).join(""));
  }
}

/** Record what the player measures from a key to its picture; runs in the page. */
async function recordLatencies() {
  const files = performance.getEntriesByType("resource").map(({ name }) => name);
  const file = files.find((name) => name.endsWith("/drive/latency.mjs"));
  if (!file) throw new Error("The page has not loaded drive/latency.mjs.");
  const { Latency } = await import(file);
  const { shown } = Latency.prototype;
  Latency.prototype.shown = function (/** @type {number} */ frame, /** @type {number} */ now) {
    const before = this.measured;
    this.measured = [];
    shown.call(this, frame, now);
    const found = this.measured.map((/** @type {number} */ ms) => ({ at: now - ms, ms }));
    /** @type {any} */ (window).recorded.latencies.push(...found);
    this.measured = [...before, ...this.measured].slice(-200);
  };
}
