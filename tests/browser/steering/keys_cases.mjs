// @ts-check
/** The player's keys, in Node.js alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { preparedAt } from "../../../web/player/comfy/lasting/prepared_prompts.mjs";
import { changeOf, numberOf, promptsIn } from "../../../web/player/prompts/prepared.mjs";
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
  const keys = { actionOf: (/** @type {KeyboardEvent} */ event) => (numberOf(event) === 2 ? note("prompt") : null) };
  const player = { reel, saveFrame: note("save"), toggleFullscreen: note("full"), runControls: { keys } };
  const handle = playerKeys(/** @type {any} */ (player));
  const press = (/** @type {Partial<KeyboardEvent>} */ key) => handle(/** @type {any} */ ({
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

test("a held digit sends its prompt once, and one without a prompt does nothing", () => {
  const { asked, press } = keyed();
  for (const repeat of [false, true]) press({ key: "2", code: "Digit2", repeat });
  press({ key: "3", code: "Digit3" });
  press({ key: "2", code: "Digit2", ctrlKey: true });
  assert.deepEqual(asked, ["prompt"]);
});

test("a digit is a place of the upper row on every keyboard, and a sign of the number pad", () => {
  const number = (/** @type {string} */ key, /** @type {string} */ code) => numberOf({ key, code });
  assert.equal(number("&", "Digit1"), 1, "in France");
  assert.equal(number("!", "Digit1"), 1, "with Shift");
  assert.equal(number("9", "Numpad9"), 9);
  assert.equal(number("PageUp", "Numpad9"), null, "without Num Lock");
  assert.equal(number("4", ""), 4, "on a screen");
  assert.equal(number("0", "Digit0"), null);
  assert.equal(number("F1", "F1"), null);
});

test("each line is a prompt, at most nine of them", () => {
  assert.deepEqual(promptsIn("a \t ball\r\n\n  a cone \n"), ["a ball", "a cone"]);
  assert.equal(promptsIn("x\n".repeat(12)).length, 9);
});

test("brackets before a prompt say what they say in the Prompt Timeline, or the line cannot be read", () => {
  assert.deepEqual(changeOf("a ball: red"), { text: "a ball: red" });
  assert.deepEqual(changeOf("(red:1.2) ball"), { text: "(red:1.2) ball" }, "the weight of a word");
  assert.deepEqual(changeOf("(over the hills) a ball"), { text: "(over the hills) a ball" });
  assert.deepEqual(changeOf("(over 2): a ball"), { text: "a ball", over: 2 });
  assert.deepEqual(changeOf("(Guidance 2.5, over 1 s,lora -0.5) : a ball"), { text: "a ball", guidance: 2.5, over: 1, lora: -0.5 });
  assert.deepEqual(changeOf("（over 2、guidance 3）：球"), { text: "球", over: 2, guidance: 3 }, "as a Chinese keyboard types");
  assert.deepEqual(changeOf("（over　２．５）：球"), { text: "球", over: 2.5 }, "with wide digits and blanks");
  for (const line of ["(over): a ball", "(over 2, over 3): a ball", "(fade 2): a ball", "(over 2):", "(over 2 guidance 3): a ball", "(over 2) a ball"]) {
    assert.equal(changeOf(line), null, line);
  }
});

test("the prompts on keys are a property of the node, which its file has", () => {
  const node = { properties: {} };
  const prepared = preparedAt(node);
  assert.equal(prepared.read(), "");
  prepared.write("a ball\na cone");
  assert.equal(preparedAt(JSON.parse(JSON.stringify(node))).read(), "a ball\na cone");
});
