// @ts-check
/** The menu of a preview's node, in Node.js alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { menuItems } from "../../../web/player/comfy/menu.mjs";

/** The menu of a player that shows a frame, in a browser with these globals.
 * @param {object} browser @param {(text: string) => void} [tell] */
function menuOf(browser, tell = assert.fail) {
  for (const name of ["navigator", "ClipboardItem"]) {
    Object.defineProperty(globalThis, name, { value: undefined, configurable: true });
  }
  for (const [name, value] of Object.entries(browser)) {
    Object.defineProperty(globalThis, name, { value, configurable: true });
  }
  const screen = { shown: 3, png: async () => "a picture" };
  const player = { reel: { screen, frames: 4, place: {}, session: null }, savedVideo: () => null };
  return menuItems(/** @type {any} */ (player), [/** @type {any} */ (player)], tell);
}

/** @param {object} browser */
const offered = (browser) => menuOf(browser).map(({ content }) => content);

/** Click on the copy of a frame; return what the user is told. @param {() => Promise<void>} write to the clipboard */
async function copied(write) {
  /** @type {string[]} */
  const told = [];
  const browser = { navigator: { clipboard: { write } }, ClipboardItem: class {} };
  const item = menuOf(browser, (text) => told.push(text)).find(({ content }) => content === "Copy this frame");
  item?.callback();
  await setImmediate();
  return told;
}

test("a frame can be copied only where the browser allows it", () => {
  const clipboard = { write: async () => {} };
  const ClipboardItem = class {};
  assert.deepEqual(offered({ navigator: { clipboard }, ClipboardItem }), ["Save this frame", "Copy this frame"]);
  assert.deepEqual(offered({ navigator: {}, ClipboardItem }), ["Save this frame"], "a page by http of another machine");
  assert.deepEqual(offered({ navigator: { clipboard } }), ["Save this frame"]);
});

test("a browser that refuses the clipboard leaves a sentence, not silence", async (context) => {
  context.mock.method(console, "warn", () => {});
  assert.deepEqual(await copied(async () => {}), []);
  const told = await copied(async () => Promise.reject(new Error("NotAllowedError")));
  assert.deepEqual(told, ["The browser did not let this page copy the frame. Allow it the clipboard, or use Save this frame."]);
});
