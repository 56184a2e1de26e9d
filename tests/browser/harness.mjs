// @ts-check
/** Opens the player's page in Chromium and reads what stands on it. */
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { chromium } from "playwright-core";

export const URL = /** @type {string} */ (process.env.LONGTAKE_URL);
const BITS = 16; // of the barcode that tests/support/numbered_frames.py draws into every frame
const EDGE = 5; // pixels between the bar and the edges of its element
const LIMIT_MS = 30_000;

/** @type {import("playwright-core").Browser} */
export let browser;

/** To be called once by each file of tests. */
export function useBrowser() {
  before(async () => {
    browser = await chromium.launch({
      executablePath: process.env.LONGTAKE_CHROMIUM,
      args: ["--no-sandbox", "--disable-dev-shm-usage"],
    });
  });
  after(() => browser.close());
}

/**
 * A test of one page, which must leave no error on the console.
 * @param {(player: PlayerPage) => Promise<void>} act
 * @param {import("playwright-core").BrowserContextOptions & {errors?: RegExp,
 *   prepare?: (page: import("playwright-core").Page) => Promise<void>}} [how] `errors` are expected
 */
export function onPage(act, { errors, prepare, ...options } = {}) {
  return async () => {
    const context = await browser.newContext({ viewport: { width: 640, height: 720 }, ...options });
    const page = await context.newPage();
    /** @type {string[]} */
    const said = [];
    page.on("console", (message) => message.type() === "error" && said.push(message.text()));
    page.on("pageerror", (error) => said.push(String(error.stack)));
    try {
      await prepare?.(page);
      const player = new PlayerPage(page);
      await player.open();
      await act(player);
      assert.deepEqual(said.filter((text) => !errors?.test(text)), []);
    } finally {
      await context.close();
    }
  };
}

/**
 * Wait until the page says `wanted`: what follows a press is drawn with the next animation frame.
 * @param {() => Promise<unknown>} read @param {unknown} wanted
 */
export async function eventually(read, wanted) {
  const end = Date.now() + LIMIT_MS;
  for (;;) {
    const found = await read();
    if (found === wanted) return;
    assert.ok(Date.now() < end, `still ${JSON.stringify(found)}, not ${JSON.stringify(wanted)}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

/** One page with one player. */
export class PlayerPage {
  /** @param {import("playwright-core").Page} page @param {import("playwright-core").Locator} [root] */
  constructor(page, root = page.locator("[data-longtake-player]")) {
    this.page = page;
    this.root = root;
    this.slider = this.root.getByRole("slider");
    this.limitMs = LIMIT_MS;
  }

  async open() {
    await this.page.goto(URL);
    await this.root.waitFor();
  }

  /** Begin a fake rollout for this page. @param {object} [fields] of tests/support/player_server.py: FakeRun */
  async start(fields = {}) {
    const token = await this.page.evaluate(async (run) => {
      const client_id = sessionStorage.getItem("clientId");
      const answer = await fetch("/fake/run", { method: "POST", body: JSON.stringify({ client_id, ...run }) });
      return (await answer.json()).take;
    }, fields);
    await this.until((data) => data.take !== "");
    return /** @type {string} */ (token);
  }

  /** Begin one and wait until all of it is here. @param {object} [fields] */
  async finished(fields = {}) {
    await this.start({ first_s: 0, chunk_s: 0, ...fields });
    await this.until((data) => data.state === "done");
  }

  /** @returns {Promise<Record<string, string>>} what the player says about itself */
  async data() {
    const said = await this.root.evaluate((root) => ({ .../** @type {HTMLElement} */ (root).dataset }));
    return /** @type {Record<string, string>} */ (said);
  }

  /** Wait for something the player says. @param {(data: Record<string, string>) => boolean} holds */
  async until(holds) {
    const end = Date.now() + this.limitMs;
    for (;;) {
      const data = await this.data();
      if (holds(data)) return data;
      assert.ok(Date.now() < end, `still not ${holds} but ${JSON.stringify(data)}`);
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  }

  /** The number that the canvas' pixels say, and the one that the player says, at one moment. */
  picture() {
    return this.root.evaluate((root, bits) => {
      const canvas = /** @type {HTMLCanvasElement} */ (root.querySelector(".lt-canvas"));
      const { width, height } = canvas;
      const row = canvas.getContext("2d")?.getImageData(0, Math.floor((height * 5) / 6), width, 1).data;
      let number = 0;
      for (let bit = 0; bit < bits; bit++) {
        const x = Math.floor(((bit + 0.5) * width) / bits);
        number = number * 2 + Number((row?.[4 * x + 1] ?? 0) > 128);
      }
      return { number, shown: Number(/** @type {HTMLElement} */ (root).dataset.shown), width, height };
    }, BITS);
  }

  /** Wait until exactly this frame is on the canvas, by its pixels. @param {number} frame */
  async sees(frame) {
    await this.until((data) => data.shown === String(frame));
    assert.equal((await this.picture()).number, frame);
  }

  /** @param {string|RegExp} name */
  button(name) {
    return this.root.getByRole("button", { name });
  }

  /** Press the bar where a frame of `length` is. @param {number} frame @param {number} length */
  async scrubTo(frame, length) {
    const box = await this.slider.boundingBox();
    assert.ok(box);
    await this.slider.click({ position: { x: placeOf(box.width, frame, length), y: 12 } });
  }
}

/** Where on a bar of this width a frame is. @param {number} width @param {number} frame
 * @param {number} length */
export function placeOf(width, frame, length) {
  return EDGE + ((frame + 0.5) / length) * (width - 2 * EDGE);
}

/** Make the page draw some five times a second, and decode pictures late: a busy machine's browser.
 * @param {import("playwright-core").Page} page */
export async function slowDown(page) {
  await page.addInitScript(() => {
    const late = () => 100 + 200 * Math.random(); // milliseconds
    window.requestAnimationFrame = (draw) => window.setTimeout(() => draw(performance.now()), late());
    window.cancelAnimationFrame = window.clearTimeout;
    const decode = window.createImageBitmap;
    window.createImageBitmap = async (/** @type {[any]} */ ...given) => {
      await new Promise((resolve) => setTimeout(resolve, late()));
      return decode(...given);
    };
  });
}
