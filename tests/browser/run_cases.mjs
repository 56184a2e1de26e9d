// @ts-check
/** The controls of the run. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { URL, eventually, onPage, useBrowser } from "./harness.mjs";

useBrowser();
const SLOW = { frames: 1800, chunk_s: 0.4, prompts: [[0, "a red ball"]] };

/** Return the number of frames once none has arrived for the time of three chunks.
 * @param {import("./harness.mjs").PlayerPage} player */
async function settled(player) {
  let since = { frames: "", at: 0 };
  await player.until(({ frames }) => {
    if (frames !== since.frames) since = { frames, at: Date.now() };
    return Date.now() - since.at > 3000 * SLOW.chunk_s;
  });
  return Number(since.frames);
}

/** Open the form for a prompt once a run has its first chunks. @param {import("./harness.mjs").PlayerPage} player
 * @param {object} run */
async function editRun(player, run) {
  await player.start(run);
  await player.until(({ frames }) => Number(frames) >= 12);
  await player.button("Edit prompt").click();
}

test("pausing the run stops its frames and resuming brings more", onPage(async (player) => {
  await player.start(SLOW);
  await player.until(({ frames }) => Number(frames) >= 12);
  await player.button("Pause run").click();
  await player.until(({ state }) => state === "paused");
  const frames = await settled(player);
  await player.button("Resume run").click();
  await player.until((data) => data.state === "running" && Number(data.frames) > frames);
}));

test("stop keeps what exists and ends the run", onPage(async (player) => {
  await player.start(SLOW);
  await player.until(({ frames }) => Number(frames) >= 12);
  await player.button("Stop").click();
  const { frames } = await player.until(({ state }) => state === "stopped");
  assert.ok(Number(frames) < SLOW.frames);
  await eventually(() => player.button("Pause run").isVisible(), false);
  await player.slider.press("ArrowLeft"); // stands still
  await player.slider.press("Home");
  await player.sees(0);
}));

test("an edited prompt goes from queued to applied at its time, and is marked on the bar", onPage(async (player) => {
  await editRun(player, { ...SLOW, chunk_s: 4 }); // long enough to look at what is queued
  const text = player.root.getByLabel("Prompt from the next chunk on");
  await eventually(() => text.inputValue(), "a red ball");
  await text.fill("a blue ball");
  await player.button("Apply").click();
  const edits = player.root.getByRole("log", { name: "Edits" });
  await edits.getByText("queued").waitFor();
  await edits.getByText(/applied at 0:0\d/).waitFor();
  await edits.getByText("a blue ball").waitFor();
  await eventually(() => player.root.locator(".lt-scrub").getAttribute("data-prompts"), "2");
}));

test("while an edited prompt is encoded, that is said", onPage(async (player) => {
  await editRun(player, { ...SLOW, encode_s: 2 });
  await player.root.getByLabel("Prompt from the next chunk on").fill("a blue ball");
  await player.button("Apply").click();
  const edits = player.root.getByRole("log", { name: "Edits" });
  await edits.getByText("encoding").waitFor();
  await edits.getByText(/applied at 0:0\d/).waitFor();
}));

test("typing in the prompt is no shortcut, and Ctrl+Enter applies it", onPage(async (player) => {
  await editRun(player, SLOW);
  const text = player.root.getByLabel("Prompt from the next chunk on");
  await text.fill("");
  await text.pressSequentially("loop sofa ");
  const { playing, following } = await player.data();
  assert.deepEqual([playing, following], ["true", "true"]);
  assert.equal(await player.button("Loop (O)").getAttribute("aria-pressed"), "false");
  await text.press("Control+Enter");
  await player.root.getByRole("log").getByText("loop sofa").waitFor();
}));

test("Escape closes the form, unless an input method takes it, and held keys apply an edit once", onPage(async (player) => {
  await editRun(player, SLOW);
  const text = player.root.getByLabel("Prompt from the next chunk on");
  await text.fill("青いボール");
  const composed = { key: "Escape", isComposing: true };
  await text.dispatchEvent("keydown", composed); // throws away what is not yet converted
  assert.equal(await text.isVisible(), true);
  await text.dispatchEvent("keydown", { ...composed, key: "Enter", ctrlKey: true });
  let requests = 0;
  player.page.on("request", (request) => { requests += Number(request.url().endsWith("/control")); });
  await player.page.keyboard.down("Control");
  for (let press = 0; press < 4; press++) await player.page.keyboard.down("Enter"); // all but the first repeat
  await player.page.keyboard.up("Enter");
  await player.page.keyboard.up("Control");
  await player.root.getByRole("log").getByText("青いボール").first().waitFor();
  const { frames } = await player.data();
  await player.until((data) => Number(data.frames) > Number(frames) + 12);
  assert.equal(requests, 1);
  await text.press("Escape");
  assert.equal(await text.isVisible(), false);
}));

test("numbers that another program changes are in the list of edits", onPage(async (player) => {
  const take = await player.start(SLOW);
  await player.until(({ frames }) => Number(frames) >= 12);
  for (const [rev, change] of [{ strength: 0.25 }, { level: 0.5 }, { lora: 2 }].entries()) {
    const data = { op: Object.keys(change)[0], ...change, rev: rev + 1 };
    const answer = await player.page.request.post(`${URL}/longtake/takes/${take}/control`, { data });
    assert.equal(answer.status(), 200);
  }
  for (const words of ["LoRA × 2", "control strength 0.25", "noise level 0.5"]) {
    await player.root.getByRole("log").getByText(words).first().waitFor();
  }
}));

test("guidance alone can be changed", onPage(async (player) => {
  await editRun(player, SLOW);
  await player.button("Apply").click();
  const nothing = player.root.getByText("Nothing to apply: change the prompt, the guidance or the LoRA first.");
  await nothing.waitFor();
  await player.root.getByLabel("Guidance").fill("3.5");
  await player.button("Apply").click();
  await player.root.getByRole("log").getByText("guidance 3.5").waitFor();
  assert.equal(await nothing.isVisible(), false);
  assert.equal(await player.root.getByRole("log").getByRole("listitem").count(), 1);
}));

test("a number alone leaves the prompt that the timeline has changed meanwhile", onPage(async (player) => {
  await editRun(player, { ...SLOW, prompts: [[0, "a red ball"], [48, "a blue ball"]] });
  const text = player.root.getByLabel("Prompt from the next chunk on");
  await eventually(() => text.inputValue(), "a red ball");
  await eventually(() => player.root.locator(".lt-scrub").getAttribute("data-prompts"), "2");
  await player.root.getByLabel("Guidance").fill("3.5");
  await player.button("Apply").click();
  const edits = player.root.getByRole("log", { name: "Edits" });
  await edits.getByText(/applied at 0:0\d/).waitFor();
  assert.equal(await edits.locator(".lt-what").textContent(), "guidance 3.5");
  await player.root.getByLabel("Guidance").fill("");
  await player.button("Apply").click(); // the prompt alone, as it stands there
  await eventually(() => edits.locator(".lt-what").first().textContent(), "a red ball");
}));

test("the form of another run has the prompt of that run, and no number of the one before", onPage(async (player) => {
  await editRun(player, { ...SLOW, frames: 60 });
  await player.root.getByLabel("Guidance").fill("1e9");
  await player.button("Apply").click();
  await player.root.getByRole("alert").waitFor();
  await player.until(({ state }) => state === "done");
  const { take } = await player.data();
  await player.start({ ...SLOW, prompts: [[0, "a green cube"]] });
  await player.until((data) => data.take !== take && Number(data.frames) >= 12);
  assert.equal(await player.root.getByRole("alert").isVisible(), false);
  await player.button("Edit prompt").click();
  const text = player.root.getByLabel("Prompt from the next chunk on");
  await eventually(() => text.inputValue(), "a green cube");
  assert.equal(await player.root.getByLabel("Guidance").inputValue(), "");
  await text.fill("a cat, half typed");
  for (let press = 0; press < 2; press++) await player.button("Edit prompt").click();
  assert.equal(await text.inputValue(), "a cat, half typed", "what was typed and not sent stays");
}, { errors: /400/ }));

test("a refused number refuses the whole edit, and the field says the largest", onPage(async (player) => {
  await editRun(player, SLOW);
  const guidance = player.root.getByLabel("Guidance");
  assert.equal(await guidance.getAttribute("max"), "30");
  await player.root.getByLabel("Prompt from the next chunk on").fill("a blue ball");
  for (const typed of ["30.1", "1e9", "1e"]) { // the last is no number
    await guidance.fill("");
    await guidance.pressSequentially(typed);
    const refused = player.page.waitForResponse((answer) => answer.status() === 400);
    await player.button("Apply").click();
    await refused;
    await eventually(() => player.root.getByRole("alert").textContent(), "guidance must be a number from 0 to 30.");
  }
  const { frames } = await player.data();
  await player.until((data) => Number(data.frames) > Number(frames) + 24);
  assert.equal(await player.root.getByRole("log").getByRole("listitem").count(), 0);
  assert.equal(await player.root.locator(".lt-scrub").getAttribute("data-prompts"), "1");
}, { errors: /400/ }));

test("all parts of an edit take effect at the same time", onPage(async (player) => {
  await editRun(player, SLOW);
  await player.root.getByLabel("Prompt from the next chunk on").fill("a blue ball");
  await player.root.getByLabel("Guidance").fill("2");
  await player.root.getByLabel("LoRA").fill("0.5");
  let requests = 0;
  player.page.on("request", (request) => { requests += Number(request.url().endsWith("/control")); });
  await player.button("Apply").click();
  await player.root.getByRole("log").getByText("a blue ball, guidance 2, LoRA × 0.5").waitFor();
  assert.equal(requests, 1);
}));

test("a page whose count fell behind another's is still obeyed", onPage(async (player) => {
  const take = await player.start(SLOW);
  await player.until(({ frames }) => Number(frames) >= 12);
  const refused = player.page.waitForResponse((answer) => answer.status() === 409);
  await player.page.evaluate((path) => { // the other's request comes in when ours is counted but not sent
    const plain = window.fetch;
    window.fetch = async (asked, init) => {
      if (!String(asked).endsWith("/control")) return plain(asked, init);
      window.fetch = plain;
      await plain(path, { ...init, body: JSON.stringify({ op: "guidance", guidance: 2, rev: 50 }) });
      return plain(asked, init);
    };
  }, `/longtake/takes/${take}/control`);
  await player.button("Pause run").click();
  await refused;
  await player.until(({ state }) => state === "paused");
}, { errors: /409/ }));

test("a refusal is shown as the words that it is", onPage(async (player) => {
  const error = "<b>no</b> & no";
  await player.page.route("**/control", (route) => route.fulfill({ status: 400, json: { error } }));
  await player.start(SLOW);
  await player.until(({ frames }) => Number(frames) >= 12);
  await player.button("Stop").click();
  await eventually(() => player.root.getByRole("alert").textContent(), error);
}, { errors: /400/ }));

test("after a minute's pause it offers to stop and free the queue", onPage(async (player) => {
  await player.page.clock.install();
  await player.start(SLOW);
  await player.until(({ frames }) => Number(frames) >= 12);
  await player.button("Pause run").click();
  await player.until(({ state }) => state === "paused");
  const free = player.button("Stop and free the queue");
  await player.page.clock.runFor(30_000);
  assert.equal(await free.isVisible(), false);
  await player.page.clock.runFor(35_000);
  await free.click();
  await player.until(({ state }) => state === "stopped");
}));

test("earlier pauses of a run do not make a new one a long one", onPage(async (player) => {
  const waits = await player.page.evaluate(async () => {
    const from = (/** @type {string} */ name) => import(`/web/player/${name}.mjs`);
    const [{ RunControls }, { Take }] = await Promise.all([from("view/run_controls"), from("takes/take")]);
    const take = new Take("fake");
    const controls = new RunControls({ take, frames: 12, growing: true, place: {}, onChange() {} });
    take.update({ state: "paused", stats: { paused_s: 61 } }); // of those that are over
    controls.update();
    return !controls.wait.hidden;
  });
  assert.equal(waits, false);
}));

test("a run cancelled before its first frame says so, and a dry run shows its plan", onPage(async (player) => {
  const heading = player.root.locator(".lt-card strong"), text = player.root.locator(".lt-card p");
  await player.start({ frames: 0, planned: true, node_id: "8" });
  await eventually(() => heading.textContent(), "Plan");
  await player.start({ frames: 0, planned: true, end: "interrupted", node_id: "9" });
  await eventually(() => heading.textContent(), "Cancelled");
  assert.equal(await text.textContent(), "The run generated no frames.");
  await player.start({ frames: 0, planned: true, end: "interrupted", resume_at_s: 1.5, node_id: "10" });
  await eventually(() => text.textContent(), "Cancelled. Press Run to resume at 0:01."); // an earlier run's chunks
}));

test("after a cancel it says where Run resumes, and a failure says why", onPage(async (player) => {
  await player.start({ frames: 96, chunk_frames: 96, fps: 16, end: "interrupted", node_id: "8", chunk_s: 0 });
  await player.root.getByText("Cancelled. Press Run to resume at 0:06.").waitFor();
  await player.start({ frames: 24, end: "error", node_id: "9", chunk_s: 0 });
  await player.root.getByText("The model produced NaN in layer 3.").waitFor();
}));

test("one press forks the shot at the playhead, where the page can do that", onPage(async (player) => {
  await player.finished({ frames: 48 });
  const fork = player.button(/^Fork the shot/);
  assert.equal(await fork.count(), 0, "a plain page has no graph");
  await player.page.evaluate(async () => {
    const [{ Library }, { Player }] = await Promise.all(
      ["takes/library", "view/player"].map((name) => import(`/web/player/${name}.mjs`)));
    const server = { request: (/** @type {string} */ path, /** @type {any} */ init) => fetch(path, init), fileUrl: () => null };
    const old = /** @type {HTMLElement} */ (document.querySelector("[data-longtake-player]"));
    const asked = /** @type {any} */ (window).asked = [];
    const place = { emptyHint: () => "", keepLine: null, fork: (/** @type {any} */ session, /** @type {number} */ seconds) =>
      asked.push([session.take.token, seconds]) > 1 ? "Not twice." : null };
    const other = new Player(server, place);
    old.replaceWith(other.element);
    const library = new Library(server);
    library.listen(() => other.offer([...library.newest(null).values()]));
    library.attach(String(sessionStorage.getItem("clientId")));
  });
  const { take } = await player.until(({ frames }) => frames === "48");
  await player.slider.press("ArrowLeft");
  await player.slider.press("End");
  await player.until(({ shown }) => shown === "47");
  await fork.click();
  await player.root.getByText("The fork was added at 0:02").waitFor();
  await fork.click();
  await player.root.getByText("Not twice.").waitFor();
  const asked = await player.page.evaluate(() => /** @type {any} */ (window).asked);
  assert.deepEqual(asked, [[take, 2.94], [take, 2.94]]);
}));

test("the workflow is searched for edits now and then, not for each picture, and at once after Keep edit", onPage(async (player) => {
  await player.start(SLOW);
  await player.until(({ frames }) => Number(frames) >= 12);
  await player.page.evaluate(async () => {
    const [{ Library }, { Player }] = await Promise.all(
      ["takes/library", "view/player"].map((name) => import(`/web/player/${name}.mjs`)));
    const server = { request: (/** @type {string} */ path, /** @type {any} */ init) => fetch(path, init), fileUrl: () => null };
    /** @type {string[]} */
    const kept = [];
    const searches = /** @type {any} */ (window).searches = [];
    const isKept = (/** @type {any} */ _, /** @type {string} */ line) => (searches.push(line), kept.includes(line));
    const keepLine = (/** @type {any} */ _, /** @type {string} */ line) => (kept.push(line), null);
    const other = new Player(server, { emptyHint: () => "", keepLine, isKept, fork: null, restart: null });
    document.querySelector("[data-longtake-player]")?.replaceWith(other.element);
    const library = new Library(server);
    library.listen(() => other.offer([...library.newest(null).values()]));
    setInterval(() => library.attach(String(sessionStorage.getItem("clientId"))), 300); // it hears no messages
    setInterval(() => other.refresh(), 5); // as a run with a driver does for each picture
  });
  await player.button("Edit prompt").click();
  await player.root.getByLabel("Prompt from the next chunk on").fill("a blue ball");
  await player.button("Apply").click();
  await player.button("Keep edit").waitFor();
  await player.until(({ state }) => state === "running");
  const searched = await player.page.evaluate(async () => {
    const { searches } = /** @type {any} */ (window);
    const before = searches.length;
    await new Promise((resolve) => setTimeout(resolve, 2000));
    return searches.length - before;
  });
  assert.ok(searched >= 1 && searched <= 6, `${searched} times in two seconds`);
  await player.button("Keep edit").click();
  await player.root.getByText("Kept in Prompt Timeline").waitFor({ timeout: 2000 });
  await eventually(() => player.page.evaluate(() => document.activeElement?.className), "lt-stage"); // the button is gone
}));

test("density, recall and fallbacks of sparse attention change while the run goes on", onPage(async (player) => {
  await player.start({ ...SLOW, sparse: true });
  const strip = player.root.locator(".lt-strip"); // all three as they stand at one moment
  const said = async () => /density(\d+) %recall91 %.*dense (\d+) times/.exec(await strip.textContent() ?? "")?.slice(1).map(Number);
  const seen = new Map();
  await eventually(async () => {
    const [density, fallbacks] = await said() ?? [];
    if (fallbacks !== undefined) seen.set(fallbacks, density);
    return seen.size >= 2;
  }, true);
  for (const [fallbacks, density] of seen) assert.equal(density, 30 + fallbacks);
}));

test("the strip shows the figures of latency that are known, with their meaning", onPage(async (player) => {
  await player.start(SLOW);
  const facts = player.root.locator(".lt-facts");
  await facts.getByText("continuous play").waitFor();
  const [names, meanings] = await facts.evaluate((list) => [
    [...list.querySelectorAll("dt")].map((each) => each.textContent),
    [...list.children].map((each) => each.getAttribute("title")),
  ]);
  assert.deepEqual(names.slice(0, 4), ["first chunk", "block latency", "real-time factor", "continuous play"]);
  assert.ok(!names.includes("switch cost"), "nothing was switched");
  assert.match(meanings[2] ?? "", /up to 1 plays live/);
}));

test("a dense run says nothing of sparse attention", onPage(async (player) => {
  await player.start(SLOW);
  await player.until(({ frames }) => Number(frames) >= 12);
  const facts = player.root.getByLabel("Measurements");
  await facts.getByText("speed").waitFor();
  assert.equal(await facts.getByText("density").count(), 0);
}));
