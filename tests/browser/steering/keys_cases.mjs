// @ts-check
/** The player's keys, in Node.js alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { playerKeys } from "../../../web/player/view/shortcuts.mjs";

/** A player that notes what is asked of it, and a function that presses a key there. @param {boolean} [live] */
function keyed(live = true) {
  /** @type {string[]} */
  const asked = [];
  const note = (/** @type {string} */ name) => () => void asked.push(name);
  const reel = {
    frames: 48, fps: 16, head: { loop: false }, prefersRefined: true, take: { live },
    toggle: note("toggle"), step: note("step"), stepChunk: note("chunk"), seek: note("seek"),
    goLive: note("live"), set: note("loop"), preferRefined: note("refined"),
  };
  const player = { reel, saveFrame: note("save"), toggleFullscreen: note("full") };
  const keys = playerKeys(/** @type {any} */ (player));
  const press = (/** @type {Partial<KeyboardEvent>} */ key) => keys(/** @type {any} */ ({
    target: { closest: () => null }, preventDefault() {}, stopPropagation() {}, ...key,
  }));
  return { asked, press };
}

test("a held key saves one frame and toggles once, but steps on", () => {
  const { asked, press } = keyed();
  for (const key of ["s", "f", " ", "o", "r", "l", "ArrowRight", "PageUp"]) {
    for (const repeat of [false, true, true]) press({ key, repeat });
  }
  assert.deepEqual(asked, [
    "save", "full", "toggle", "loop", "refined", "live", "step", "step", "step", "chunk", "chunk", "chunk",
  ]);
});

test("nothing follows a run that has ended", () => {
  const { asked, press } = keyed(false);
  press({ key: "l" });
  press({ key: "o" });
  assert.deepEqual(asked, ["loop"]);
});

test("on a keyboard of another script a letter is the key that has it; on a Latin one it is what is typed", () => {
  const { asked, press } = keyed();
  press({ key: "ㄴ", code: "KeyS" }); // Korean
  press({ key: "щ", code: "KeyO" }); // Cyrillic
  press({ key: "о", code: "KeyJ" }); // looks like an o, and is none
  press({ key: "o", code: "KeyS" }); // Dvorak
  press({ key: "ê", code: "KeyF" });
  assert.deepEqual(asked, ["save", "loop", "loop"]);
});
