// @ts-check
/** The menu of a preview's node, in Node.js alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { menuItems } from "../../../web/player/comfy/menu.mjs";

/** What the menu offers for a player that shows a frame, in a browser with these globals. @param {object} browser */
function offered(browser) {
  for (const name of ["navigator", "ClipboardItem"]) {
    Object.defineProperty(globalThis, name, { value: undefined, configurable: true });
  }
  for (const [name, value] of Object.entries(browser)) {
    Object.defineProperty(globalThis, name, { value, configurable: true });
  }
  const player = { reel: { screen: { shown: 3 }, frames: 4, place: {}, session: null }, savedVideo: () => null };
  return menuItems(/** @type {any} */ (player), [/** @type {any} */ (player)]).map(({ content }) => content);
}

test("a frame can be copied only where the browser allows it", () => {
  const clipboard = { write: async () => {} };
  const ClipboardItem = class {};
  assert.deepEqual(offered({ navigator: { clipboard }, ClipboardItem }), ["Save this frame", "Copy this frame"]);
  assert.deepEqual(offered({ navigator: {}, ClipboardItem }), ["Save this frame"], "a page by http of another machine");
  assert.deepEqual(offered({ navigator: { clipboard } }), ["Save this frame"]);
});
