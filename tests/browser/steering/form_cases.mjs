// @ts-check
/** The form for a prompt: what it sends, and what becomes of the user's words. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PlayerPage, eventually, onPage, useBrowser } from "../harness.mjs";

useBrowser();
const RUN = { frames: 1800, chunk_s: 0.4, prompts: [[0, "a red ball"]] };
const SHORT = { ...RUN, frames: 36, chunk_s: 1 };

/** @param {PlayerPage} player */
const words = (player) => player.root.getByLabel("Prompt from the next chunk on");
/** @param {PlayerPage} player */
const ended = (player) => player.root.getByText("The run has ended.");

/** Open the form once a run has its first chunk. @param {PlayerPage} player @param {object} run */
async function openForm(player, run) {
  await player.start(run);
  await player.until(({ frames }) => Number(frames) >= 12);
  await player.button("Edit prompt").click();
}

/** Count the requests to the run from now on. @param {PlayerPage} player */
function countRequests(player) {
  const count = { value: 0 };
  player.page.on("request", (request) => { count.value += Number(request.url().endsWith("/control")); });
  return count;
}

test("the end of the run does not close the form while the user types, and no key reaches the page", onPage(async (player) => {
  await openForm(player, SHORT);
  const keys = await player.page.evaluateHandle(() => {
    /** @type {string[]} */
    const seen = [];
    window.addEventListener("keydown", ({ key }) => seen.push(key));
    return seen;
  });
  await words(player).fill("a ca");
  const requests = countRequests(player);
  await player.until(({ state }) => state === "done");
  await ended(player).waitFor();
  await player.page.keyboard.type("t");
  assert.equal(await words(player).inputValue(), "a cat");
  assert.equal(await player.button("Apply").isDisabled(), true);
  await player.page.keyboard.press("Control+Enter");
  await player.page.waitForTimeout(300); // for a request
  assert.deepEqual([await keys.jsonValue(), requests.value], [[], 0]);
  assert.equal(await player.root.getByRole("alert").isVisible(), false);
  await player.page.keyboard.press("Escape");
  await eventually(() => words(player).isVisible(), false);
  await eventually(() => player.button("Edit prompt").isVisible(), false);
}));

test("the form of an ended run stays for unsent words, and closes once it is left without any", onPage(async (player) => {
  await openForm(player, SHORT);
  await words(player).fill("a cat");
  await player.slider.focus();
  await player.until(({ state }) => state === "done");
  await ended(player).waitFor();
  assert.equal(await words(player).inputValue(), "a cat");
  await words(player).fill("");
  await player.page.waitForTimeout(300); // for the player to draw
  assert.equal(await words(player).isVisible(), true);
  await player.slider.focus();
  await eventually(() => words(player).isVisible(), false);
  await openForm(player, { ...SHORT, node_id: "8" });
  await player.button("Pause playback").click(); // nobody types, and the words are the run's
  await player.until(({ state }) => state === "done");
  await eventually(() => words(player).isVisible(), false);
}));

test("words that the run's end left unsent go to the next run, and another take does not show them", onPage(async (player) => {
  const first = await player.start({ ...SHORT, node_id: "7", chunk_s: 0 });
  await player.until(({ state }) => state === "done");
  await openForm(player, { ...SHORT, node_id: "8" });
  const second = (await player.data()).take;
  await words(player).fill("a cat");
  await player.until(({ state }) => state === "done");
  const picker = player.root.getByLabel("Take", { exact: true });
  await picker.focus();
  await picker.selectOption("7");
  await player.until(({ take }) => take === first);
  await eventually(() => words(player).isVisible(), false);
  await picker.selectOption("8");
  await eventually(() => words(player).isVisible(), true);
  assert.equal(await words(player).inputValue(), "a cat");
  await player.start({ ...RUN, node_id: "8" });
  await player.until(({ take, frames }) => ![first, second].includes(take) && Number(frames) >= 12);
  assert.equal(await ended(player).isVisible(), false);
  await player.button("Apply").click();
  await player.root.getByRole("log", { name: "Edits" }).getByText("a cat").waitFor();
}));
