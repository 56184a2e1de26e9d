// @ts-check
/** Prompts on keys: where they are written and kept, what a press does, and where it does nothing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PlayerPage, eventually, onPage, useBrowser } from "../harness.mjs";

useBrowser();
const RUN = { frames: 1800, chunk_s: 0.4, prompts: [[0, "a red ball"]], camera: true };

/** @param {PlayerPage} player */
const field = (player) => player.root.getByLabel("Prompts on keys, one a line");
/** @param {PlayerPage} player */
const edits = (player) => player.root.getByRole("log", { name: "Edits" }).locator(".lt-what");
/** @param {PlayerPage} player @param {string} name */
const prompt = (player, name) => player.root.locator(".lt-prompts").getByRole("button", { name });

/** Write prompts for the keys once a run has its first chunk, and wait until it takes them. @param {PlayerPage} player @param {string} text */
async function prepare(player, text) {
  await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 12);
  await player.button("Prompts on keys").click();
  await field(player).fill(text);
  const first = player.root.locator(".lt-prompts").getByRole("button").first();
  await eventually(() => first.isEnabled(), true);
}

test("a key sends its prompt as an edit of the run, in the picture, on a button and while driving", onPage(async (player) => {
  await prepare(player, "a blue ball\n\n  a green cone \n");
  await field(player).press("Escape");
  await eventually(() => field(player).isVisible(), false);
  await player.page.keyboard.press("2"); // on the button, to which the focus has returned
  await player.root.getByText(/^applied/).waitFor();
  await eventually(() => prompt(player, "2 a green cone").getAttribute("aria-pressed"), "true");
  await player.button("Drive").click(); // the picture has the focus, and the wheel takes W A S D
  await player.page.keyboard.down("KeyW");
  await player.page.keyboard.down("ShiftLeft"); // doubles the speed, and types another sign
  await player.page.keyboard.press("Digit1");
  for (const key of ["ShiftLeft", "KeyW"]) await player.page.keyboard.up(key);
  await eventually(() => edits(player).allTextContents().then(String), "a blue ball,a green cone");
  assert.equal(await prompt(player, "2 a green cone").getAttribute("aria-pressed"), "false");
}));

test("digits are typed in fields, and a key without a prompt goes to the page around", onPage(async (player) => {
  await prepare(player, "a blue ball");
  await player.button("Edit prompt").click();
  await player.page.keyboard.press("1");
  await field(player).press("End");
  await player.page.keyboard.press("1");
  assert.equal(await field(player).inputValue(), "a blue ball1");
  const keys = await player.page.evaluateHandle(() => {
    /** @type {string[]} */
    const seen = [];
    window.addEventListener("keydown", ({ key }) => seen.push(key));
    return seen;
  });
  await player.slider.focus();
  for (const key of ["2", "Control+1", "1"]) await player.page.keyboard.press(key);
  await edits(player).getByText("a blue ball1").waitFor();
  assert.deepEqual(await keys.jsonValue(), ["2", "Control", "1"]);
  assert.equal(await edits(player).count(), 1);
}));

test("the prompts outlive the run and the page, and act in the next run alone", onPage(async (player) => {
  await prepare(player, "a blue ball");
  await player.slider.focus();
  await player.button("Stop").click();
  await player.until(({ state }) => state === "stopped");
  await eventually(() => prompt(player, "1 a blue ball").isVisible(), false);
  await player.page.keyboard.press("1");
  assert.equal(await edits(player).count(), 0);
  await player.page.reload();
  await player.start(RUN);
  await prompt(player, "1 a blue ball").click();
  await edits(player).getByText("a blue ball").waitFor();
}));

test("a line may say how its prompt comes in, as one of the Prompt Timeline does", onPage(async (player) => {
  await prepare(player, "(over 2, guidance 3): a blue ball\n(fade 2): a green cone");
  await player.slider.press("1");
  await edits(player).getByText("a blue ball, over 2 s, guidance 3").waitFor();
  await eventually(() => prompt(player, "a blue ball").getAttribute("aria-pressed"), "true");
  await player.slider.press("2");
  await player.root.getByRole("alert").getByText("Write (over 2)").waitFor();
  assert.equal(await edits(player).count(), 1);
}));

test("what the run refuses of a prompt is said beside the buttons", onPage(async (player) => {
  await prepare(player, "x".repeat(8193));
  await prompt(player, "1 x").click();
  await player.root.getByRole("alert").getByText("8192").waitFor();
}, { errors: /400/ }));
