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

test("the end of the run does not close the form while the user types, and no typed key reaches the page", onPage(async (player) => {
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
  await player.page.keyboard.press("Control+s"); // ComfyUI saves its workflow
  assert.deepEqual(await keys.jsonValue(), ["s"]);
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

/** Apply a prompt. @param {PlayerPage} player @param {string} text */
async function apply(player, text) {
  await words(player).fill(text);
  await player.button("Apply").click();
}

/** @param {PlayerPage} player */
const edits = (player) => player.root.getByRole("log", { name: "Edits" });

test("an edit that waits is taken back by the prompt in force", onPage(async (player) => {
  await openForm(player, { ...RUN, chunk_s: 4 }); // long enough to take it back
  await apply(player, "a blue ball");
  await edits(player).getByText("a blue ball").waitFor();
  await edits(player).getByText("queued").waitFor();
  await apply(player, "a red ball");
  await eventually(() => edits(player).locator(".lt-what").allTextContents().then(String), "a red ball");
  assert.equal(await player.root.getByRole("alert").isVisible(), false);
}));

test("an edit that is encoded is taken back by the prompt in force", onPage(async (player) => {
  await openForm(player, { ...RUN, encode_s: 4 });
  await apply(player, "a blue ball");
  await edits(player).getByText("encoding").waitFor();
  await apply(player, "a red ball");
  await eventually(() => edits(player).locator(".lt-what").allTextContents().then(String), "a red ball,a blue ball");
}));

test("a number is sent once, and one that was refused or typed meanwhile stays", onPage(async (player) => {
  await openForm(player, RUN);
  const [guidance, lora] = ["Guidance", "LoRA"].map((name) => player.root.getByLabel(name));
  await guidance.fill("99");
  await lora.fill("0.5");
  await player.button("Apply").click();
  await player.root.getByRole("alert").waitFor();
  assert.deepEqual([await guidance.inputValue(), await lora.inputValue()], ["99", "0.5"]);
  await player.page.route("**/control", async (route) => {
    await lora.fill("0.7");
    await route.continue();
  }, { times: 1 });
  await guidance.fill("3");
  await player.button("Apply").click();
  await edits(player).getByText("guidance 3, LoRA × 0.5").waitFor();
  await eventually(() => guidance.inputValue(), "");
  assert.equal(await lora.inputValue(), "0.7");
  await lora.fill("");
  await edits(player).getByText(/applied/).waitFor();
  await apply(player, "a green cone");
  await eventually(() => edits(player).locator(".lt-what").first().textContent(), "a green cone");
}, { errors: /400/ }));

test("a prompt blends in over the seconds of its field, which are sent once and not without a prompt", onPage(async (player) => {
  await openForm(player, RUN);
  const over = player.root.getByLabel("Over");
  await over.fill("2");
  await player.root.getByLabel("Guidance").fill("3");
  const requests = countRequests(player);
  await player.button("Apply").click();
  await player.root.getByRole("alert").getByText("Only a new prompt blends in").waitFor();
  assert.deepEqual([await over.inputValue(), requests.value], ["2", 0]);
  await apply(player, "a blue ball");
  await edits(player).getByText("a blue ball, over 2 s, guidance 3").waitFor();
  await eventually(() => over.inputValue(), "");
  await edits(player).getByText(/applied/).waitFor(); // an edit that waits would be joined by the next
  await apply(player, "a green cone");
  await eventually(() => edits(player).locator(".lt-what").first().textContent(), "a green cone");
  await over.fill("601");
  await apply(player, "a red ball");
  await player.root.getByRole("alert").getByText("over must be a number from 0 to 600").waitFor();
}, { errors: /400/ }));

test("the fields of numbers say what is in force, at once after an edit", onPage(async (player) => {
  await openForm(player, RUN);
  await player.button("Pause run").click();
  await player.until(({ state }) => state === "paused");
  const [guidance, lora] = ["Guidance", "LoRA"].map((name) => player.root.getByLabel(name));
  const shown = async () => String(await Promise.all([guidance, lora].map((field) => field.getAttribute("placeholder"))));
  await eventually(shown, "1,1");
  await guidance.fill("2.5");
  await lora.fill("0.5");
  await player.button("Apply").click();
  await edits(player).getByText("queued").waitFor();
  await eventually(shown, "2.5,0.5");
  await edits(player).getByText("queued").waitFor(); // still, as no chunk has begun
  await apply(player, "a green cone"); // leaves them
  await edits(player).getByText("a green cone").waitFor();
  await player.button("Resume run").click();
  await player.root.getByText(/^applied/).first().waitFor();
  const { frames } = await player.data();
  await player.until((data) => Number(data.frames) > Number(frames) + 12);
  assert.equal(await shown(), "2.5,0.5");
}));

test("the words of a refused edit are still unsent, and those of an accepted one are not", onPage(async (player) => {
  await openForm(player, { ...RUN, prompts: [[0, "a red ball"], [240, "a green cone"]] });
  await player.button("Pause run").click(); // or a slow page could send the words after frame 240
  await player.until(({ state }) => state === "paused");
  await player.root.getByLabel("Guidance").fill("99");
  await apply(player, "a cat");
  await player.root.getByRole("alert").waitFor();
  for (let press = 0; press < 2; press++) await player.button("Edit prompt").click();
  assert.equal(await words(player).inputValue(), "a cat");
  await player.root.getByLabel("Guidance").fill("");
  await player.button("Apply").click();
  await edits(player).getByText("queued").waitFor();
  await player.button("Resume run").click();
  await edits(player).getByText(/applied/).waitFor();
  await eventually(() => player.root.locator(".lt-scrub").getAttribute("data-prompts"), "3"); // the timeline goes on
  for (let press = 0; press < 2; press++) await player.button("Edit prompt").click();
  assert.equal(await words(player).inputValue(), "a green cone");
}, { errors: /400/ }));

test("brackets before the words of a prompt say what they say in the Prompt Timeline", onPage(async (player) => {
  await openForm(player, RUN);
  await apply(player, "(over 2, guidance 3): a cat");
  await edits(player).getByText("a cat, over 2 s, guidance 3").waitFor();
  await apply(player, "(over 2) a dog");
  await player.root.getByRole("alert").getByText("The brackets before the prompt cannot be read").waitFor();
  assert.equal(await words(player).inputValue(), "(over 2) a dog");
}, { errors: /400/ }));

test("the first prompt goes along with a number once another one was sent", onPage(async (player) => {
  await openForm(player, RUN);
  await apply(player, "a blue ball");
  await edits(player).getByText(/applied/).waitFor();
  await player.root.getByLabel("Guidance").fill("3");
  await apply(player, "a red ball");
  await eventually(() => edits(player).locator(".lt-what").first().textContent(), "a red ball, guidance 3");
}));

test("the next player of the take gets what was typed, and learns what was sent", onPage(async (player) => {
  const [typed, shown, sent] = await player.page.evaluate(async () => {
    const from = (/** @type {string} */ name) => import(`/web/player/${name}.mjs`);
    const [{ RunControls }, { Take }] = await Promise.all([from("view/run_controls"), from("takes/take")]);
    const take = new Take("fake");
    take.update({ state: "running" });
    const session = { take, transport: { control: async () => {} }, draft: undefined };
    const open = () => {
      const controls = new RunControls({ take, frames: 12, growing: true, session, place: {}, onChange() {} });
      controls.update();
      return [controls, controls.prompt, controls.over, controls.guidance, controls.lora];
    };
    const [controls, ...fields] = open();
    controls.edit.click();
    for (const [at, value] of ["a cat", "1.5", "2.5", "0.5"].entries()) {
      fields[at].value = value;
      fields[at].dispatchEvent(new Event("input", { bubbles: true }));
    }
    const typed = session.draft;
    const shown = open().slice(1).map(({ value }) => value);
    controls.applyButton.click();
    await new Promise((resolve) => setTimeout(resolve));
    return [typed, shown, session.draft];
  });
  assert.deepEqual(typed, { prompt: "a cat", over: "1.5", guidance: "2.5", lora: "0.5" });
  assert.deepEqual(shown, ["a cat", "1.5", "2.5", "0.5"]);
  assert.deepEqual(sent, { prompt: "", over: "", guidance: "", lora: "" });
}));

/** Say what the form holds when it is opened, of a take of 24 frames. @param {PlayerPage} player
 * @param {object[]} made @param {object[]} shown */
const filled = (player, made, shown) => player.page.evaluate(async ({ made, shown }) => {
  const from = (/** @type {string} */ name) => import(`/web/player/${name}.mjs`);
  const [{ RunControls }, { Take }] = await Promise.all([from("view/run_controls"), from("takes/take")]);
  const take = new Take("fake");
  take.update({ state: "running", edits: made, prompt_changes: shown });
  const controls = new RunControls({ take, frames: 24, growing: true, session: { take }, place: {}, onChange() {} });
  controls.update();
  controls.edit.click();
  return controls.prompt.value;
}, { made, shown });

test("the form opens with the prompt that the next chunk will have", onPage(async (player) => {
  const edit = (/** @type {string} */ status, /** @type {number|null} */ first_frame, /** @type {string|null} */ text = "edited") =>
    ({ status, text, first_frame, guidance: null, lora: null, start_s: null, line: null, error: null });
  const [ball, cube] = [{ frame: 0, text: "a ball" }, { frame: 12, text: "a cube" }];
  assert.equal(await filled(player, [], [ball, cube]), "a cube");
  assert.equal(await filled(player, [edit("applied", 24)], [ball, cube]), "edited", "its chunk is not shown yet");
  assert.equal(await filled(player, [edit("applied", 6)], [ball, cube]), "a cube", "the timeline went on");
  assert.equal(await filled(player, [edit("failed", null)], [ball]), "a ball");
  assert.equal(await filled(player, [edit("encoding", null), edit("queued", null, null)], [ball]), "edited");
}));
