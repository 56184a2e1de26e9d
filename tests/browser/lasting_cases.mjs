// @ts-check
/** The player survives reloads and lost connections, and keeps no memory that it should free. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PlayerPage, URL, browser, eventually, onPage, useBrowser } from "./harness.mjs";

useBrowser();
const RUN = { frames: 120, chunk_s: 0.5 };

test("a reload in mid-run finds the take again and goes on live", onPage(async (player) => {
  const take = await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 24);
  await player.page.reload();
  const data = await player.until(({ shown }) => Number(shown) >= 12);
  assert.deepEqual([data.take, data.following], [take, "true"]);
  await player.until(({ state, frames }) => state === "done" && frames === "120");
  await player.slider.press("ArrowRight");
  await player.slider.press("Home");
  await player.sees(0);
}));

const BLOCKS_STORAGE = { prepare: async (/** @type {import("playwright-core").Page} */ page) => page.addInitScript(() => {
  for (const name of ["localStorage", "sessionStorage"]) { // as Chromium does where the user blocks cookies
    Object.defineProperty(window, name, { get() { throw new DOMException(`No ${name}`, "SecurityError"); } });
  }
}) };

test("in a browser that blocks storage, a run plays and takes a prompt from a key", onPage(async (player) => {
  await player.page.routeWebSocket(/\/ws/, (socket) => {
    socket.connectToServer();
    client = new globalThis.URL(socket.url()).searchParams.get("clientId") ?? "";
  });
  let client = "";
  await player.page.reload(); // the page knew its client only in its storage
  await player.root.waitFor();
  await player.start({ ...RUN, frames: 1800, client_id: client, prompts: [[0, "a red ball"]] });
  await player.until(({ frames }) => Number(frames) >= 12);
  await player.button("Prompts on keys").click();
  await player.root.getByLabel("Prompts on keys, one a line").fill("a blue ball");
  const first = player.root.locator(".lt-prompts").getByRole("button").first();
  await eventually(() => first.isEnabled(), true);
  await player.slider.press("1");
  await player.root.getByRole("log", { name: "Edits" }).getByText("a blue ball").waitFor();
  await player.button("Stop").click();
  await player.until(({ state }) => state === "stopped");
}, BLOCKS_STORAGE));

/** Intercept the page's websocket. @param {import("playwright-core").Page} page */
async function tap(page) {
  /** @type {{socket: any, drop: (text: string) => boolean}} */
  const hands = { socket: null, drop: () => false };
  await page.routeWebSocket(/\/ws/, (socket) => {
    const server = socket.connectToServer();
    hands.socket = socket;
    server.onMessage((text) => void (hands.drop(String(text)) || socket.send(text)));
  });
  return hands;
}

/** @type {Awaited<ReturnType<typeof tap>>} */
let hands;
const tapped = { prepare: async (/** @type {any} */ page) => void (hands = await tap(page)) };

test("a lost connection costs no frame", onPage(async (player) => {
  await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 24);
  await hands.socket.close();
  await player.until(({ state, frames }) => state === "done" && frames === "120");
}, tapped));

test("a message that was lost is made up for by the next", onPage(async (player) => {
  hands.drop = (text) => text.includes('"seq": 2,');
  await player.start(RUN);
  await player.until(({ frames, chunks }) => Number(frames) >= 48 && Number(chunks) === Number(frames) / 12);
}, tapped));

test("another tab of the same browser shows the run too", onPage(async (player) => {
  const other = new PlayerPage(await player.page.context().newPage());
  await other.open();
  const take = await player.start(RUN);
  const data = await other.until(({ shown }) => Number(shown) >= 12);
  assert.equal(data.take, take);
}));

test("another tab goes on when the tab that began the run is closed", onPage(async (player) => {
  const other = new PlayerPage(await player.page.context().newPage());
  await other.open();
  const take = await player.start(RUN);
  const { frames } = await other.until((data) => data.take === take && Number(data.frames) >= 12);
  await player.page.close();
  await other.until((data) => Number(data.frames) >= Number(frames) + 24);
  await other.until(({ state }) => state === "done");
}));

test("a second browser with the same key follows the run, and the first goes on", onPage(async (player) => {
  const keyed = `${URL}#${Math.random()}`;
  await player.page.goto("about:blank"); // another key alone loads nothing anew
  await player.page.goto(keyed);
  const take = await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 12);
  const context = await browser.newContext();
  try {
    const second = new PlayerPage(await context.newPage());
    await second.page.goto(keyed);
    const { frames } = await second.until((data) => data.take === take && Number(data.shown) >= 0);
    for (const each of [player, second]) await each.until((data) => Number(data.frames) >= Number(frames) + 24);
    await player.until(({ state }) => state === "done");
  } finally {
    await context.close();
  }
}));

test("a take that the server no longer has can still be watched, and is said to be gone", onPage(async (player) => {
  await player.start({ frames: 120, chunk_s: 0.5 });
  await player.until(({ frames, shown }) => Number(frames) >= 24 && Number(shown) > 12);
  await player.page.route(/takes\/[^/]+$/, (route) => route.fulfill({ status: 404, json: { error: "gone" } }));
  hands.drop = () => true;
  await hands.socket.close();
  await player.root.getByText("This preview is no longer on the server").waitFor();
  await player.slider.press("ArrowRight");
  await player.slider.press("Home");
  await player.sees(0);
}, { ...tapped, errors: /404/ }));

/** Count the open bitmaps. @param {import("playwright-core").Page} page */
async function countBitmaps(page) {
  await page.addInitScript(() => {
    const counts = { alive: 0, most: 0 };
    Object.assign(window, { counts });
    const make = window.createImageBitmap;
    const close = ImageBitmap.prototype.close;
    ImageBitmap.prototype.close = function () {
      counts.alive--;
      close.call(this);
    };
    window.createImageBitmap = async (/** @type {[any]} */ ...given) => {
      const bitmap = await make(...given);
      counts.most = Math.max(counts.most, ++counts.alive);
      return bitmap;
    };
  });
}

/** @param {import("playwright-core").Page} page @returns {Promise<{alive: number, most: number}>} */
const bitmaps = (page) => page.evaluate(() => /** @type {any} */ (window).counts);

test("over 2,000 frames few bitmaps are alive and the heap stays flat", onPage(async (player) => {
  const session = await player.page.context().newCDPSession(player.page);
  const heap = async () => {
    await session.send("HeapProfiler.collectGarbage");
    return (await session.send("Runtime.getHeapUsage")).usedSize;
  };
  await player.start({ frames: 2400, chunk_frames: 12, width: 96, height: 64, fps: 240, first_s: 0, chunk_s: 0.02 });
  await player.until(({ shown }) => Number(shown) >= 400);
  const before = await heap();
  await player.until(({ shown }) => Number(shown) >= 2399);
  const grown = (await heap()) - before;
  assert.ok(grown < 2 ** 20, `${grown} bytes more`);
  const { most } = await bitmaps(player.page);
  assert.ok(most <= 32 + 8, `${most} bitmaps at once`); // 32 kept, up to 8 being decoded
  assert.ok(Number((await player.data()).bitmaps) <= 32);
}, { prepare: countBitmaps }));

/** Leave a take at a frame, at twice the speed, with loop and without the refined pictures, and say what the next
 * player of it does and shows. @param {PlayerPage} player @param {number|null} frame null: where it is */
const leave = (player, frame) => player.page.evaluate(async (frame) => {
  const from = (/** @type {string} */ name) => import(`/web/player/${name}.mjs`);
  const [{ Player }, { Library }] = [await from("view/player"), await from("takes/library")];
  const server = { request: fetch.bind(window), fileUrl: () => null };
  const library = new Library(server);
  const token = /** @type {HTMLElement} */ (document.querySelector("[data-longtake-player]")).dataset.take;
  await library.show(token, "", "");
  const begin = () => {
    const begun = new Player(server, { emptyHint: () => "", keepLine: null });
    begun.show(library.open(token));
    return begun;
  };
  const first = begin();
  if (frame !== null) first.reel.seek(frame);
  first.reel.set({ loop: true, speed: 2 });
  first.reel.preferRefined(false);
  first.dispose();
  const next = begin();
  const { frame: begun, head, prefersRefined } = next.reel;
  const { playing, following, loop, speed } = head;
  for (let drawn = 0; drawn < 2; drawn++) await new Promise(requestAnimationFrame);
  const shown = [next.playbackBar.speed.value, next.playbackBar.loop.getAttribute("aria-pressed")];
  return { begun, playing, following, prefersRefined, kept: [loop, speed, ...shown] };
}, frame);

test("another player of a take begins where the one before left it", onPage(async (player) => {
  await player.finished({ frames: 48 });
  const { begun, playing, prefersRefined, kept } = await leave(player, 30);
  assert.deepEqual([begun, playing, prefersRefined, kept], [30, false, false, [true, 2, "2", "true"]]);
}));

test("another player that follows the run keeps and shows speed and loop of the one before", onPage(async (player) => {
  await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 12);
  const { following, kept } = await leave(player, null);
  assert.deepEqual([following, kept], [true, [true, 2, "2", "true"]]);
}));

test("a player that is taken away leaves nothing behind", onPage(async (player) => {
  await player.finished({ frames: 48 });
  await player.until(({ playing }) => playing === "false");
  const left = await player.page.evaluate(async () => {
    const from = (/** @type {string} */ name) => import(`/web/player/${name}.mjs`);
    const [{ Player }, { Library }] = [await from("view/player"), await from("takes/library")];
    const token = /** @type {HTMLElement} */ (document.querySelector("[data-longtake-player]")).dataset.take;
    const server = { request: fetch.bind(window), fileUrl: () => null };
    const library = new Library(server);
    const before = /** @type {any} */ (window).counts.alive;
    const made = new Player(server, { emptyHint: () => "", keepLine: null });
    document.body.append(made.element);
    await library.show(token, "", "");
    made.show(library.open(token));
    made.reel.toggle();
    const alive = () => /** @type {any} */ (window).counts.alive - before;
    const pause = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));
    for (let tries = 0; alive() < 8 && tries < 500; tries++) await pause(20);
    const shown = alive();
    made.dispose();
    for (let tries = 0; alive() > 0 && tries < 500; tries++) await pause(20);
    await pause(500); // what was being decoded is closed when it comes
    return { shown, after: alive(), attached: made.element.isConnected };
  });
  assert.ok(left.shown >= 8);
  assert.deepEqual([left.after, left.attached], [0, false]);
}, { prepare: countBitmaps }));
