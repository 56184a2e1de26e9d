// @ts-check
/** Driving the camera: keys, buttons, two tabs, what is shown and measured. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PlayerPage, URL, eventually, onPage, useBrowser } from "../harness.mjs";

useBrowser();
const RUN = { frames: 1800, chunk_s: 0.5, camera: true };

/** @param {PlayerPage} player */
const pad = (player) => player.root.locator(".lt-drive");
/** @param {PlayerPage} player @param {string} name */
const fact = (player, name) => pad(player).getAttribute(`data-${name}`);

/** Begin a run that can be driven, and drive it. @param {PlayerPage} player @param {object} [run] */
async function drive(player, run = RUN) {
  const take = await player.start(run);
  await player.until(({ frames }) => Number(frames) >= 12);
  await player.button("Drive").click();
  await eventually(() => player.button("Stop driving").isVisible(), true);
  return take;
}

/** Return the drive as the server has it. @param {PlayerPage} player @param {string} take */
const lines = (player, take) => player.page.evaluate(async (token) =>
  (await (await fetch(`/longtake/takes/${token}/drive`)).json()).lines.join("\n"), take);

test("a run without a camera offers no wheel", onPage(async (player) => {
  await player.start({ frames: 48, chunk_s: 0 });
  await player.until(({ frames }) => Number(frames) >= 12);
  assert.equal(await pad(player).isVisible(), false);
}));

test("held keys move the camera until they are released, and the page does not scroll", onPage(async (player) => {
  const take = await drive(player);
  await player.page.evaluate(() => { document.body.style.height = "4000px"; });
  await player.page.keyboard.down("KeyW");
  await player.page.keyboard.down("ArrowLeft");
  await eventually(() => fact(player, "held"), "left w");
  await eventually(() => fact(player, "made"), "forward 0.5, pan left 22.5");
  await pad(player).getByText("Held: forward 0.5, pan left 22.5.").waitFor();
  await player.page.keyboard.down("ShiftLeft");
  await eventually(() => fact(player, "made"), "forward 1, pan left 45");
  for (const key of ["KeyW", "ArrowLeft", "ShiftLeft"]) await player.page.keyboard.up(key);
  await eventually(() => fact(player, "made"), "still");
  assert.equal(await player.page.evaluate(() => window.scrollY), 0);
  // A chunk may begin between the releases of two keys: then it moves by what is still held.
  assert.match(await lines(player, take), /: forward 0\.5, pan left 22\.5\n.*: forward 1, pan left 45\n(.*\n)?.*: still$/);
}));

test("a tap between two chunks is not lost", onPage(async (player) => {
  const take = await drive(player);
  await player.page.keyboard.press("KeyD");
  await eventually(async () => /right 0\.5\n.*still/.test(await lines(player, take)), true);
}));

test("keys act only while the player has the focus", onPage(async (player) => {
  const take = await drive(player);
  await player.page.keyboard.down("KeyW");
  await eventually(() => fact(player, "made"), "forward 0.5");
  await player.page.evaluate(() => {
    const other = document.body.appendChild(document.createElement("button"));
    other.focus();
  });
  await eventually(() => fact(player, "held"), "");
  await player.page.keyboard.down("KeyS");
  await eventually(() => fact(player, "made"), "still");
  assert.doesNotMatch(await lines(player, take), /back/);
}));

test("without Drive the keys are the player's shortcuts", onPage(async (player) => {
  const take = await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 24);
  await player.slider.press("ArrowLeft"); // stands still
  await player.slider.press("Home");
  await player.until(({ shown, playing }) => shown === "0" && playing === "false");
  await player.page.keyboard.press("ArrowRight");
  await player.until(({ shown }) => shown === "1");
  assert.equal(await lines(player, take), "");
}));

test("buttons on the screen drive while they are pressed, also from the keyboard", onPage(async (player) => {
  const take = await drive(player);
  const forward = player.button("Forward");
  await forward.hover();
  await player.page.mouse.down();
  await eventually(() => fact(player, "made"), "forward 0.5");
  assert.equal(await forward.getAttribute("aria-pressed"), "true");
  await player.page.mouse.up();
  await eventually(() => fact(player, "made"), "still");
  await player.button("Turn right").press("Enter");
  await eventually(async () => /pan right 22\.5/.test(await lines(player, take)), true);
}));

test("dragging looks around", onPage(async (player) => {
  const take = await drive(player);
  const box = await pad(player).locator(".lt-look").boundingBox();
  assert.ok(box);
  await player.page.mouse.move(box.x + 5, box.y + 5);
  await player.page.mouse.down();
  await player.page.mouse.move(box.x + 305, box.y + 5, { steps: 6 });
  await player.page.mouse.up();
  await eventually(async () => /pan right/.test(await lines(player, take)), true);
  await eventually(() => fact(player, "made"), "still");
}));

test("a gamepad drives", onPage(async (player) => {
  await drive(player);
  await player.page.evaluate(() => {
    const pad = { connected: true, axes: [0, -1, 0.575, 0], buttons: [] };
    navigator.getGamepads = () => /** @type {any} */ ([null, pad]);
  });
  await eventually(() => fact(player, "made"), "forward 1, pan right 22.5");
}));

test("a finger that rests on a button opens no menu; the right button of a mouse does", onPage(async (player) => {
  await drive(player);
  const opened = (/** @type {string} */ pointerType) => player.button("Forward").evaluate((button, type) => {
    let reached = false;
    const note = () => { reached = true; };
    document.addEventListener("contextmenu", note, { once: true });
    const free = button.dispatchEvent(new PointerEvent("contextmenu", { bubbles: true, cancelable: true, pointerType: type }));
    document.removeEventListener("contextmenu", note);
    return [reached, free];
  }, pointerType);
  assert.deepEqual(await opened("touch"), [false, false]);
  assert.deepEqual(await opened("mouse"), [true, true]);
}));

test("a key whose release Command hides on macOS drives no longer", onPage(async (player) => {
  await drive(player);
  await player.page.keyboard.down("KeyW");
  await eventually(() => fact(player, "held"), "w");
  await player.page.keyboard.press("Meta"); // KeyW is released meanwhile, and no event says so
  await eventually(() => fact(player, "held"), "");
}));

test("a stick that is held when the window loses the focus drives no longer", onPage(async (player) => {
  await drive(player);
  await player.page.evaluate(() => {
    const pad = { connected: true, axes: [0, -1, 0, 0], buttons: [] };
    navigator.getGamepads = () => /** @type {any} */ ([pad]);
  });
  await eventually(() => fact(player, "made"), "forward 1");
  await player.page.evaluate(() => {
    document.hasFocus = () => false;
    window.dispatchEvent(new Event("blur"));
  });
  await eventually(() => fact(player, "made"), "still");
}));

test("of two tabs one drives, and the other is told and may take the wheel", onPage(async (player) => {
  await drive(player);
  await player.page.keyboard.down("KeyW");
  await eventually(() => fact(player, "made"), "forward 0.5");
  const page = await player.page.context().newPage();
  await page.addInitScript((id) => sessionStorage.setItem("clientId", id),
    await player.page.evaluate(() => sessionStorage.getItem("clientId") ?? ""));
  const other = new PlayerPage(page);
  await other.page.goto(URL);
  await other.until(({ frames }) => Number(frames) >= 12);
  await other.button(/^Drive$/).click();
  await pad(other).getByText("Another tab drives this run.").waitFor();
  await other.button("Drive from here").click();
  await eventually(() => pad(other).getByText("Another tab drives this run.").isVisible(), false);
  await page.bringToFront();
  await page.keyboard.down("KeyS"); // the button had the focus, and is hidden
  await eventually(() => fact(other, "made"), "back 0.5");
  await pad(player).getByText("Another tab drives this run.").waitFor();
}));

/** Count the keys that get past the player, to shortcuts of the host. @param {PlayerPage} player */
async function keysOfTheHost(player) {
  await player.page.evaluate(() => {
    const passed = /** @type {string[]} */ ([]);
    Object.assign(window, { passed });
    document.addEventListener("keydown", ({ code }) => passed.push(code));
  });
  return () => player.page.evaluate(() => /** @type {any} */ (window).passed.join(" "));
}

test("a server that answers late takes the keys, not the wheel", onPage(async (player) => {
  let late = false;
  await player.page.route("**/longtake/alive", (route) => (late ? route.abort() : route.continue()));
  const downloads = /** @type {string[]} */ ([]);
  player.page.on("download", (download) => downloads.push(download.suggestedFilename()));
  await drive(player);
  const passed = await keysOfTheHost(player);
  await player.page.keyboard.down("KeyD");
  await eventually(() => fact(player, "made"), "right 0.5");
  late = true;
  await pad(player).getByText("No connection to the server.").waitFor();
  assert.equal(await fact(player, "held"), "");
  await player.page.keyboard.press("KeyS"); // saves a picture where nobody drives
  late = false;
  await pad(player).getByText("No connection to the server.").waitFor({ state: "hidden" });
  assert.ok(await player.button("Stop driving").isVisible());
  await player.page.keyboard.down("KeyD"); // as a keyboard repeats it
  await eventually(() => fact(player, "held"), "d");
  assert.deepEqual([downloads, await passed()], [[], ""]);
}, { errors: /Failed to load resource/ }));

test("a key that is held as the run ends opens no menu of the host", onPage(async (player) => {
  await drive(player, { ...RUN, frames: 60 });
  const passed = await keysOfTheHost(player);
  await player.button("Stop driving").focus();
  await player.page.keyboard.down("KeyW");
  await player.until(({ state }) => state === "done");
  await eventually(() => player.button(/^(Drive|Stop driving)$/).isVisible(), false);
  await player.page.keyboard.down("KeyW");
  assert.equal(await passed(), "");
  assert.equal(await player.page.evaluate(() => document.activeElement?.className), "lt-stage");
}));

test("the time from a key to its picture is measured and shown", onPage(async (player) => {
  await drive(player);
  for (let i = 0; i < 3; i++) {
    await player.page.keyboard.down("KeyW");
    await player.page.waitForTimeout(700);
    await player.page.keyboard.up("KeyW");
    await player.page.waitForTimeout(300);
  }
  await eventually(async () => Number(await fact(player, "latencies")) >= 4, true);
  const text = await pad(player).getByText(/From key to picture/).innerText();
  const [, half, most] = /: ([\d.]+) s \(p50\), ([\d.]+) s \(p95\)/.exec(text) ?? [];
  assert.ok(Number(half) > 0 && Number(half) <= Number(most), text);
}));

test("every press, one chunk later: half a chunk's press is half its motion", onPage(async (player) => {
  await drive(player);
  await player.root.getByLabel("When keys act").selectOption("history");
  await player.page.keyboard.down("KeyW");
  await eventually(async () => /^forward 0\.\d+$/.test((await fact(player, "made")) ?? ""), true);
  await eventually(() => fact(player, "made"), "forward 0.5");
}));

test("with re-plan, a key throws away what is made but not yet shown, and the player says so", onPage(async (player) => {
  const take = await drive(player, { ...RUN, chunk_s: 0.3 });
  await player.root.getByLabel("When keys act").selectOption("re-plan");
  for (let i = 0; i < 20 && !(Number(await fact(player, "replanned")) >= 2); i++) {
    await player.page.keyboard.down("KeyW");
    await player.page.waitForTimeout(400);
    await player.page.keyboard.up("KeyW");
    await player.page.waitForTimeout(400);
  }
  const count = await fact(player, "replanned");
  assert.ok(Number(count) >= 2, `made again: ${count}`);
  await pad(player).getByText(/Unseen chunks made again: \d+\./).waitFor();
  const starts = (await lines(player, take)).split("\n").map((line) => Number(line.split(":")[0]));
  assert.deepEqual(starts, [...starts].sort((a, b) => a - b)); // no line of a chunk that was thrown away
  const { frames, shown } = await player.data();
  assert.ok(Number(frames) - Number(shown) <= 24, `shown ${shown} of ${frames}`); // two chunks
}));

test("a drive can be saved as lines, and a server without it is told", onPage(async (player) => {
  await drive(player);
  await player.page.keyboard.down("KeyW");
  await eventually(() => fact(player, "made"), "forward 0.5");
  const download = player.page.waitForEvent("download");
  await player.button("Save drive").click();
  assert.equal((await download).suggestedFilename(), "longtake_drive.txt");
  const gone = "This clip is no longer in the preview store; run the workflow again to see it.";
  await player.page.route("**/drive", (route) => (route.request().method() === "GET"
    ? route.fulfill({ status: 404, json: { error: gone } }) : route.continue()));
  await player.button("Save drive").click();
  await pad(player).getByText(gone).waitFor();
}, { errors: /404/ }));
