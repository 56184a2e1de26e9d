// @ts-check
/** Opens the player's page in Chromium and reads its state. */
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { chromium } from "playwright-core";

export const URL = /** @type {string} */ (process.env.LONGTAKE_URL);
const BITS = 16; // of the barcode that tests/support/numbered_frames.py draws into every frame
const EDGE = 5; // pixels between the bar and the edges of its element
const LIMIT_MS = 30_000;
const CASE_MS = 600_000; // only against a hang, as the suite's own limit
const LAST_REV = Number.MAX_SAFE_INTEGER; // of a control, later than those of any page
const ANSWERS = new Set([200, 404, 409]); // of a control: done, no such take any more, already ended

/** The fake rollouts of the case. @type {Set<string>} */
const begun = new Set();

/** @type {import("playwright-core").Browser} */
export let browser;

/** Launch Chromium; the caller closes it. @param {...string} more arguments */
export function launch(...more) {
  return chromium.launch({
    executablePath: process.env.LONGTAKE_CHROMIUM,
    args: ["--no-sandbox", "--disable-dev-shm-usage", ...more],
  });
}

/** Launch the browser of a test file; call this once. @param {...string} more arguments */
export function useBrowser(...more) {
  before(async () => {
    browser = await launch(...more);
  });
  after(() => browser.close());
}

/**
 * Return a test of one page; any console error fails it.
 * @param {(player: PlayerPage) => Promise<void>} act
 * @param {import("playwright-core").BrowserContextOptions & {errors?: RegExp,
 *   prepare?: (page: import("playwright-core").Page) => Promise<void>}} [how] `errors` are expected
 */
export function onPage(act, { errors, prepare, ...options } = {}) {
  return async () => {
    const context = await browser.newContext({ viewport: { width: 640, height: 720 }, ...options });
    const page = await context.newPage();
    /** @type {string[]} */
    const messages = [];
    page.on("console", (message) => message.type() === "error" && messages.push(message.text()));
    page.on("pageerror", (error) => messages.push(String(error.stack)));
    try {
      await prepare?.(page);
      const player = new PlayerPage(page);
      await player.open();
      await withinLimit(act(player));
      assert.deepEqual(messages.filter((text) => !errors?.test(text)), []);
    } finally {
      await context.close();
      await stopAll();
    }
  };
}

/** Stop what a case began: the server would go on drawing frames that nobody sees. */
async function stopAll() {
  for (const take of begun) {
    const { status } = await fetch(`${URL}/longtake/takes/${take}/control`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ op: "stop", rev: LAST_REV }),
    });
    assert.ok(ANSWERS.has(status), `stopping a run gave ${status}`);
  }
  begun.clear();
}

/**
 * Fail a case that hangs: a promise inside the page may wait for ever for an event that never comes.
 * @param {Promise<void>} work
 */
export async function withinLimit(work) {
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the case hangs: ${CASE_MS / 1000} s are over`)), CASE_MS);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Wait until `read` returns `wanted`; the page shows the result of a click one animation frame later.
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

  /** Open the page, and wait for its connection: a run from before does not play. */
  async open() {
    const attached = this.page.waitForRequest((request) => request.url().endsWith("/longtake/attach"));
    await this.page.goto(URL);
    await Promise.all([this.root.waitFor(), attached]);
  }

  /** Start a fake rollout for this page. @param {{client_id?: string}} [fields] of tests/support/player_server.py: FakeRun */
  async start(fields = {}) {
    const token = await this.page.evaluate(async (run) => {
      const client_id = run.client_id ?? sessionStorage.getItem("clientId");
      const answer = await fetch("/fake/run", { method: "POST", body: JSON.stringify({ ...run, client_id }) });
      return (await answer.json()).take;
    }, fields);
    begun.add(token);
    await this.until((data) => data.take !== "");
    return /** @type {string} */ (token);
  }

  /** Start a fake rollout and wait until all of it has arrived. @param {object} [fields] */
  async finished(fields = {}) {
    await this.start({ first_s: 0, chunk_s: 0, ...fields });
    await this.until((data) => data.state === "done");
  }

  /** @returns {Promise<Record<string, string>>} the player's data attributes */
  async data() {
    const dataset = await this.root.evaluate((root) => ({ .../** @type {HTMLElement} */ (root).dataset }));
    return /** @type {Record<string, string>} */ (dataset);
  }

  /** Wait until the player's data attributes match. @param {(data: Record<string, string>) => boolean} holds */
  async until(holds) {
    const end = Date.now() + this.limitMs;
    for (;;) {
      const data = await this.data();
      if (holds(data)) return data;
      assert.ok(Date.now() < end, `still not ${holds} but ${JSON.stringify(data)}`);
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  }

  /** Return the frame number in the canvas pixels and the player's own number, at one moment. */
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

  /** Wait until the canvas pixels show exactly this frame. @param {number} frame */
  async sees(frame) {
    await this.until((data) => data.shown === String(frame));
    assert.equal((await this.picture()).number, frame);
  }

  /** @param {string|RegExp} name */
  button(name) {
    return this.root.getByRole("button", { name });
  }

  /** Click the bar at a frame of `length` frames. @param {number} frame @param {number} length */
  async scrubTo(frame, length) {
    const box = await this.slider.boundingBox();
    assert.ok(box);
    await this.slider.click({ position: { x: placeOf(box.width, frame, length), y: 12 } });
  }
}

/** Return the x position of a frame on a bar of this width. @param {number} width @param {number} frame
 * @param {number} length */
export function placeOf(width, frame, length) {
  return EDGE + ((frame + 0.5) / length) * (width - 2 * EDGE);
}

/** Imitate the browser of a busy machine: draw about five times a second and decode pictures late.
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
