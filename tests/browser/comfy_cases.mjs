// @ts-check
/** The player in ComfyUI: what must hold with both node renderers, at the root and in a subgraph. */
import assert from "node:assert/strict";
import { anySeed, forkInView, inEachPlace } from "./comfy.mjs";
import { eventually, useBrowser } from "./harness.mjs";

/** @typedef {import("./comfy.mjs").CanvasPage} CanvasPage */

useBrowser();
const PACE = 0.3; // seconds for each chunk of 12 frames: half as long as they play
const SLOW_PACE = 1.5; // for what must be met in mid-run by a page that is behind
inEachPlace({
  "frames appear as they are made": framesAppear,
  "wheel, middle and right button over the player are the canvas's": passed,
  "it outlives a reload, another workflow and a lost connection": outlives,
  "after Cancel, Run resumes where it says": cancelled,
  "an error before the first frame is told in the player": failed,
  "an error of another output is told in the player": otherOutputFailed,
  "what a node says stays after the run, and the next run empties it": saysNoMore,
  "after Cancel the shot is started afresh with a new seed": restarted,
  "a dead server is shown, and a new connection too": disconnected,
  "pause, edit, resume, keep the edit, stop": edited,
  "deleting the node in mid-run leaves the run alone": deleted,
  "saving and loading changes no widget and no size, and the clip stays": saved,
  "one click forks the shot at the playhead": forked,
});

/** @param {CanvasPage} canvas */
async function framesAppear(canvas) {
  await canvas.run(3, { pace: PACE });
  await canvas.until(({ shown, state }) => Number(shown) >= 4 && state === "running");
  const { number, shown } = await canvas.picture();
  assert.equal(number, shown);
  const { frames, following } = await canvas.until(({ state }) => state === "done");
  assert.equal(following, "true");
  await canvas.sees(Number(frames) - 1);
  await canvas.seesEach(0, 8, 9, 30);
  const box = await canvas.root.boundingBox();
  assert.ok(box && box.width > 300 && box.height >= 300, JSON.stringify(box));
}

/** @param {CanvasPage} canvas */
async function passed(canvas) {
  const { page, root } = canvas;
  const view = () => page.evaluate(() => [app.canvas.ds.scale, ...app.canvas.ds.offset].join(" "));
  const changes = async (/** @type {() => Promise<void>} */ act) => {
    const before = await view();
    await act();
    await page.waitForFunction((was) => [app.canvas.ds.scale, ...app.canvas.ds.offset].join(" ") !== was, before);
  };
  const box = await root.boundingBox();
  assert.ok(box);
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 3];
  await page.mouse.move(x, y);
  await changes(() => page.mouse.wheel(0, -100));
  await page.mouse.down({ button: "middle" });
  await changes(() => page.mouse.move(x + 60, y + 40, { steps: 5 }));
  await page.mouse.up({ button: "middle" });
  await page.mouse.click(x + 60, y + 40, { button: "right" });
  await page.getByText(/^(Remove|Delete)$/).first().waitFor();
  await page.keyboard.press("Escape");
  await page.mouse.click(x + 60, 10);
}

/** @param {CanvasPage} canvas */
async function outlives(canvas) {
  /** Frames come, and the picture is the one that it says it is. @param {Record<string, string>} before */
  const goesOn = async ({ take, frames }) => {
    const data = await canvas.until((now) => Number(now.frames) > Number(frames) && Number(now.shown) >= 0);
    assert.deepEqual([data.take, data.state], [take, "running"]);
    const { number, shown } = await canvas.picture();
    assert.equal(number, shown);
    return data;
  };
  await canvas.run(0, { pace: PACE }); // until Stop
  let data = await canvas.until(({ shown }) => Number(shown) >= 0);
  await canvas.page.waitForFunction(() => [localStorage, sessionStorage].some((store) =>
    Object.values(store).some((kept) => kept.includes("NumberFrames")))); // the page keeps it a moment later
  await canvas.reload();
  data = await goesOn(data);
  await canvas.leaveAndReturn();
  data = await goesOn(data);
  await canvas.page.evaluate(() => window.comfyAPI.api.api.socket.close());
  await goesOn(data);
  await canvas.button("Stop").click();
  const { frames } = await canvas.until(({ state }) => state === "stopped");
  await canvas.slider.press("ArrowLeft");
  await canvas.slider.press("End");
  await canvas.sees(Number(frames) - 1);
  await canvas.slider.press("Home");
  await canvas.sees(0);
}

/** @param {CanvasPage} canvas */
async function cancelled(canvas) {
  const how = { seed: anySeed(), pace: SLOW_PACE };
  await canvas.run(6, how);
  await canvas.until(({ frames }) => Number(frames) >= 21);
  await canvas.page.evaluate(() => window.comfyAPI.api.api.interrupt(null));
  const { frames: kept } = await canvas.until(({ state }) => state === "interrupted");
  const says = canvas.root.getByText(/Cancelled. Press Run to resume at 0:0\d\./);
  await says.waitFor();
  await canvas.seesEach(Number(kept) - 1, 0);
  await canvas.run(6, how);
  await canvas.until(({ state }) => state === "running");
  await canvas.root.getByText(/Resumed at 0:0\d/).waitFor();
  const { frames } = await canvas.until(({ state }) => state === "done");
  assert.equal(frames, "105");
  await canvas.seesEach(0, Number(kept) - 1, Number(kept), 104);
}

/** @param {CanvasPage} canvas */
async function failed(canvas) {
  const policy = await canvas.get("LongtakeKVCacheSettings", "policy");
  const tooLarge = { policy: "window + sink", sink_frames: 50 }; // for the model's window, which only the run knows
  const reason = "Diffusion-Forcing Sampler: window_frames is 21 and its sink 50 latent frames";
  await canvas.set("LongtakeKVCacheSettings", tooLarge);
  await canvas.run(1);
  const card = canvas.root.locator(".lt-card");
  await card.getByText("The run failed").waitFor();
  await card.getByText(reason).waitFor();
  await canvas.closeDialogs();
  await canvas.leaveAndReturn();
  await card.getByText(reason).waitFor();
  await canvas.set("LongtakeKVCacheSettings", { policy, sink_frames: -1 });
  await canvas.run(1);
  await canvas.until(({ state, shown }) => state === "done" && Number(shown) >= 0);
  assert.equal(await card.isVisible(), false);
  await canvas.set("LongtakeKVCacheSettings", tooLarge);
  await canvas.run(1);
  await canvas.root.locator(".lt-banner").getByText(reason).waitFor(); // over the earlier run's frames
  await canvas.closeDialogs();
}

/** @param {CanvasPage} canvas */
async function otherOutputFailed(canvas) {
  const prefix = await canvas.get("LongtakeSaveVideo", "filename_prefix");
  await canvas.set("LongtakeSaveVideo", { filename_prefix: `${prefix}_%width%` });
  await canvas.run(1);
  await canvas.until(({ state }) => state === "done");
  // below that run's file, which only a run can know, since it has the width
  await canvas.set("LongtakeSaveVideo", { filename_prefix: `${prefix}_%width%_00001_.mp4/x` });
  await canvas.run(3, { pace: PACE });
  const reason = /Save Video \(Stream\): filename_prefix .* needs the folder .*, where a file stands/;
  await canvas.root.locator(".lt-card, .lt-banner").filter({ hasText: reason }).waitFor(); // frames or none
  await canvas.closeDialogs();
  await canvas.look(); // the key leaves a subgraph, too
  await canvas.set("LongtakeSaveVideo", { filename_prefix: prefix });
  const { take } = await canvas.data();
  await canvas.run(3);
  const { frames } = await canvas.until(({ state, take: now }) => state === "done" && now !== take);
  await canvas.seesEach(0, Number(frames) - 1);
  assert.equal(await canvas.root.getByText("The run failed").isVisible(), false);
}

/** @param {CanvasPage} canvas */
async function saysNoMore(canvas) {
  if (canvas.where.subgraph) return; // the host shows no text of nodes outside while a subgraph is open
  const [node, status] = ["LongtakePromptTimeline", "$$node-text-preview"];
  const text = await canvas.get(node, "text");
  const runWith = async (/** @type {string} */ words) => {
    await canvas.set(node, { text: words });
    const { take: before } = await canvas.data();
    await canvas.run(1);
    await canvas.until(({ state, take }) => state === "done" && take !== before);
  };
  const said = () => canvas.page.evaluate(([type, name]) => {
    const timeline = app.graph.nodes.find((/** @type {any} */ each) => each.comfyClass === type);
    return timeline.widgets.find((/** @type {any} */ widget) => widget.name === name)?.value ?? "";
  }, [node, status]);
  const ended = () => canvas.page.evaluate(() => new Promise((resolve) =>
    window.comfyAPI.api.api.addEventListener("execution_success", () => setTimeout(resolve, 500), { once: true })));
  const first = ended();
  await runWith("a red ball, xyzzy");
  await first; // the newest front end removes such a text here
  assert.match(await said(), /xyzzy/);
  await runWith(text);
  await eventually(said, "");
}

/** @param {CanvasPage} canvas */
async function restarted(canvas) {
  const seed = anySeed();
  await canvas.run(6, { seed, pace: PACE });
  await canvas.until(({ frames }) => Number(frames) >= 21);
  await canvas.page.evaluate(() => window.comfyAPI.api.api.interrupt(null));
  const { take } = await canvas.until(({ state }) => state === "interrupted");
  await canvas.button(/^Resume at 0:0\d/).click();
  const resumed = await canvas.until(({ state, take: now }) => state === "running" && now !== take);
  assert.equal(await canvas.get("LongtakeSampler", "seed"), seed);
  await canvas.page.evaluate(() => window.comfyAPI.api.api.interrupt(null));
  await canvas.until(({ state }) => state === "interrupted");
  await canvas.button("Start afresh").click();
  const fresh = await canvas.until(({ state, take: now }) => state === "running" && now !== resumed.take);
  assert.notEqual(await canvas.get("LongtakeSampler", "seed"), seed);
  assert.ok(Number(fresh.frames) <= 21, "nothing comes from the earlier shot");
  assert.equal(await canvas.root.getByText(/Resumed at/).isVisible(), false);
  await canvas.button("Stop").click();
  await canvas.until(({ state }) => state === "stopped");
}

/** @param {CanvasPage} canvas */
async function disconnected(canvas) {
  await canvas.run(0, { pace: PACE });
  await canvas.until(({ shown }) => Number(shown) >= 0);
  await canvas.page.evaluate(() => { // a refused address: for a blocked port the constructor would throw
    const { WebSocket } = window;
    Object.assign(window, { WebSocket: function refused() { return new WebSocket(`ws://${location.host}/refused`); }, Plain: WebSocket });
    window.comfyAPI.api.api.socket.close();
  });
  await canvas.root.getByText("No connection to ComfyUI. When it runs again, press Run to resume.").waitFor();
  assert.equal(await canvas.button(/LIVE/).isVisible(), false);
  assert.equal(await canvas.button("Stop").isDisabled(), true);
  const { frames } = await canvas.data();
  await canvas.page.evaluate(() => Object.assign(window, { WebSocket: /** @type {any} */ (window).Plain }));
  await canvas.until((data) => data.connected === "true" && Number(data.frames) > Number(frames));
  await canvas.button("Stop").click();
  await canvas.until(({ state }) => state === "stopped");
}

/** @param {CanvasPage} canvas */
async function edited(canvas) {
  const before = await canvas.get("LongtakePromptTimeline", "text");
  await canvas.run(30, { pace: PACE });
  await canvas.until(({ frames }) => Number(frames) >= 9);
  await canvas.button("Pause run").click();
  await canvas.until(({ state }) => state === "paused");
  await canvas.button("Edit prompt").click();
  await canvas.root.getByLabel("Prompt from the next chunk on").fill("a green cube at night");
  await canvas.button("Apply").click();
  const edits = canvas.root.getByRole("log", { name: "Edits" });
  await edits.getByText("a green cube at night").waitFor();
  assert.equal(await canvas.get("LongtakePromptTimeline", "text"), before, "an edit alone does not touch the workflow");
  const { frames: paused } = await canvas.data();
  await canvas.slider.press("ArrowLeft"); // stands still
  await canvas.slider.press("Home");
  await canvas.sees(0);
  await canvas.slider.press("ArrowRight");
  await canvas.sees(1);
  await canvas.button("Resume run").click();
  await edits.getByText(/applied at 0:/).waitFor();
  await canvas.until(({ frames }) => Number(frames) > Number(paused));
  await canvas.button("Keep edit").click();
  await eventually(() => edits.locator(".lt-outcome").textContent(), "Kept in Prompt Timeline");
  assert.match(await canvas.get("LongtakePromptTimeline", "text"), /\n[\d.:]+: a green cube at night$/);
  await canvas.button("Stop").click();
  const { frames } = await canvas.until(({ state }) => state === "stopped");
  assert.ok(Number(frames) < 480);
  await canvas.leaveAndReturn();
  await edits.getByText("Kept in Prompt Timeline").waitFor();
  assert.equal(await canvas.button("Keep edit").count(), 0);
  await canvas.slider.press("ArrowLeft");
  await canvas.slider.press("End");
  await canvas.sees(Number(frames) - 1);
}

/** @param {CanvasPage} canvas */
async function deleted(canvas) {
  await canvas.run(6, { pace: PACE });
  const { take } = await canvas.until(({ shown }) => Number(shown) >= 4);
  const ended = canvas.page.evaluate(() => new Promise((resolve) => {
    window.comfyAPI.api.api.addEventListener("execution_success", () => resolve("success"), { once: true });
    window.comfyAPI.api.api.addEventListener("execution_error", () => resolve("error"), { once: true });
  }));
  await canvas.page.evaluate(async () => {
    const node = app.canvas.graph.nodes.find((/** @type {any} */ each) => each.comfyClass === "LongtakePreview");
    app.canvas.selectNode(node);
    await app.extensionManager.command.execute("Comfy.Canvas.DeleteSelectedItems");
  });
  await canvas.root.waitFor({ state: "detached" });
  assert.equal(await ended, "success");
  await canvas.page.evaluate(() => app.extensionManager.command.execute("Comfy.Undo"));
  await canvas.look();
  assert.equal((await canvas.until(({ state, shown }) => state === "done" && Number(shown) >= 0)).take, take);
  await canvas.seesEach(104, 0);
}

/** @param {CanvasPage} canvas */
async function saved(canvas) {
  const widgets = () => canvas.page.evaluate(() => {
    const root = app.rootGraph ?? app.graph;
    const graphs = [root, ...root.subgraphs.values()];
    return graphs.flatMap((graph) => graph.serialize().nodes)
      .map((/** @type {any} */ node) => [node.type, node.widgets_values ?? [], node.size])
      .sort((/** @type {any} */ one, /** @type {any} */ other) => (String(one) < String(other) ? -1 : 1));
  });
  const load = () => canvas.page.evaluate(async () => {
    const root = app.rootGraph ?? app.graph;
    await app.loadGraphData(JSON.parse(JSON.stringify(root.serialize())));
  });
  const before = await widgets();
  const nodes = Object.values(await canvas.prompt());
  assert.deepEqual(Object.keys(nodes.find((node) => node.class_type === "LongtakePreview").inputs), ["frames"]);
  await load();
  await canvas.look();
  assert.deepEqual(await widgets(), before);
  await canvas.run(1);
  const { take } = await canvas.until(({ state, shown }) => state === "done" && Number(shown) >= 0);
  await load();
  await canvas.look();
  assert.equal((await canvas.until(({ shown }) => Number(shown) >= 0)).take, take);
  await canvas.seesEach(20, 0);
}

/** @param {CanvasPage} canvas */
async function forked(canvas) {
  const seed = anySeed();
  await canvas.run(4, { seed });
  await canvas.until(({ state }) => state === "done");
  await canvas.seesEach(33);
  await canvas.button(/^Fork the shot/).click();
  await eventually(() => canvas.page.evaluate(forkInView), true);
  assert.deepEqual(await canvas.page.evaluate(covered), [], "the new node covers no other");
  await canvas.look();
  await canvas.root.getByText(/The fork was added at 0:02/).waitFor();
  const prompt = await canvas.prompt();
  const nodes = Object.entries(prompt);
  const [id, fork] = nodes.find(([, node]) => node.class_type === "LongtakeEditRollout") ?? ["", null];
  const decode = nodes.find(([, node]) => node.class_type === "LongtakeVAEDecode")?.[1];
  assert.equal(prompt[fork.inputs.rollout[0]].class_type, "LongtakeSampler");
  assert.deepEqual(decode.inputs.rollout, [id, 0]);
  assert.equal(fork.inputs.action, "fork");
  assert.equal(fork.inputs.at, Math.round((100 * 33) / 16) / 100);
  const { take } = await canvas.data();
  await canvas.set("LongtakeEditRollout", { new_prompt: "a blue ball at night" });
  await canvas.run(4, { seed });
  await canvas.until(({ state, take: now }) => state === "done" && now !== take);
  await canvas.root.getByText(/Resumed at 0:02/).waitFor(); // what both share was not made again
  await canvas.seesEach(32, 33, 68);
}

/** Return the types of the nodes that cover the Fork node, in the page. */
function covered() {
  const root = app.rootGraph ?? app.graph;
  const box = (/** @type {any} */ { pos: [x, y], size: [w, h] }) => [x, y - 30, x + w, y + h];
  const fork = root.nodes.find((/** @type {any} */ node) => node.comfyClass === "LongtakeEditRollout");
  const [left, top, right, bottom] = box(fork);
  return root.nodes.filter((/** @type {any} */ node) => {
    const [l, t, r, b] = box(node);
    return node !== fork && l < right && left < r && t < bottom && top < b;
  }).map((/** @type {any} */ node) => node.type);
}
