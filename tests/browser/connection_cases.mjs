// @ts-check
/** What the player shows while its server cannot be reached, and where a run resumes. */
import assert from "node:assert/strict";
import { kill as signal } from "node:process";
import { test } from "node:test";
import { eventually, onPage, URL, useBrowser } from "./harness.mjs";

useBrowser();
const RUN = { frames: 1800, chunk_s: 0.3 };
const NOTICE_MS = 10_000; // on a busy machine; an idle one takes a tenth of a second

/** The page's server, which can be cut off; `anew`: another one answers in its place.
 * @type {{alive: boolean, anew: boolean, socket: any}} */
let server;

/** @param {import("playwright-core").Page} page */
async function prepare(page) {
  server = { alive: true, anew: false, socket: null };
  await page.routeWebSocket(/\/ws/, (socket) => {
    if (!server.alive) return void socket.close();
    server.socket = socket;
    if (!server.anew) socket.connectToServer();
  });
  await page.route("**/longtake/**", (route) => (server.alive ? route.continue() : route.abort()));
}

/** End the server, as a kill does. */
async function kill() {
  server.alive = false;
  await server.socket.close();
}

const errors = /Failed to load resource|WebSocket/;

test("a dead server is shown at once, and its run cannot be controlled", onPage(async (player) => {
  await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 24);
  await player.button("Edit prompt").click();
  await kill();
  await player.root.getByText("No connection to the server. Run the same command again to resume.").waitFor({ timeout: NOTICE_MS });
  assert.equal(await player.button(/LIVE/).isVisible(), false);
  for (const name of ["Pause run", "Stop", "Apply"]) {
    assert.equal(await player.button(name).isDisabled(), true, name);
  }
  const { frames } = await player.data();
  server.alive = true;
  await player.until((data) => data.connected === "true" && Number(data.frames) > Number(frames));
  await player.button(/LIVE/).waitFor();
  await player.button("Stop").click();
  await player.until(({ state }) => state === "stopped");
}, { prepare, errors }));

test("a server that hangs is shown soon, and its run is followed again when it answers", onPage(async (player) => {
  const process = await (await fetch(`${URL}/fake/process`)).json();
  await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 24);
  await player.button("Edit prompt").click();
  signal(process, "SIGSTOP"); // its websocket stays open
  try {
    await player.root.getByText("The server does not answer. This page keeps asking.").waitFor({ timeout: 2 * NOTICE_MS });
    assert.equal(await player.button(/LIVE/).isVisible(), false);
    for (const name of ["Pause run", "Stop", "Apply"]) {
      assert.equal(await player.button(name).isDisabled(), true, name);
    }
  } finally {
    signal(process, "SIGCONT");
  }
  const { frames } = await player.data();
  await player.until((data) => data.connected === "true" && Number(data.frames) > Number(frames));
  await player.button(/LIVE/).waitFor();
  await player.button("Stop").click();
  await player.until(({ state }) => state === "stopped");
}, { errors }));

test("a page without a run does not ask whether its server answers", onPage(async (player) => {
  await player.finished({ frames: 24 });
  let asked = 0;
  await player.page.route("**/longtake/alive", (route) => (asked++, route.continue()));
  await new Promise((resolve) => setTimeout(resolve, 4000));
  assert.equal(asked, 0);
}));

test("a dead server is shown before the first frame too", onPage(async (player) => {
  await player.start({ ...RUN, first_s: 30 });
  await player.root.getByText("Waiting for the first chunk").waitFor();
  await kill();
  await player.root.getByText("No connection", { exact: true }).waitFor({ timeout: NOTICE_MS });
}, { prepare, errors }));

test("without its server a finished take is watched, and asks for nothing", onPage(async (player) => {
  await player.finished({ frames: 48 });
  await player.until(({ shown }) => shown === "47");
  await kill();
  await player.root.getByText("No connection to the server.", { exact: true }).waitFor({ timeout: NOTICE_MS });
  assert.equal(await player.root.getByText(/to resume/).count(), 0);
  await player.slider.press("ArrowLeft"); // a frame that is on the page; a busy page may lack earlier chunks
  await player.sees(46);
}, { prepare, errors }));

test("a control that does not arrive is refused in a sentence", onPage(async (player) => {
  await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 12);
  await player.page.route("**/control", (route) => route.abort());
  await player.button("Stop").click();
  await eventually(() => player.root.getByRole("alert").textContent(), "The server does not answer. See whether this was done before you try again.");
}, { errors }));

test("a resumed run says at once where it resumes, and goes there", onPage(async (player) => {
  await player.start({ frames: 600, chunk_s: 0.7, resume_at_s: 28.5, first_s: 1 });
  await eventually(() => player.root.locator(".lt-card strong").textContent(), "Resuming at 0:28");
  await eventually(() => player.root.locator(".lt-state").textContent(), "Resuming at 0:28");
  const { shown } = await player.until((data) => Number(data.shown) >= 456);
  assert.ok(Number(shown) < 520, "the new frames are played, and the old ones are not"); // 456 are from disk
  await player.root.getByText("Resumed at 0:28. Earlier frames came from disk.").waitFor();
  await eventually(() => player.root.locator(".lt-state").isVisible(), false);
  const { following } = await player.data();
  assert.equal(following, "true");
}));

test("a resumed run says so where its first chunk takes long", onPage(async (player) => {
  await player.start({ frames: 600, chunk_s: 9, resume_at_s: 1.5 });
  await player.until(({ frames }) => frames === "24");
  await eventually(() => player.root.locator(".lt-state").textContent(), "Resuming at 0:01");
}));

test("a server begun anew has none of the page's runs, and the player says so", onPage(async (player) => {
  await player.start(RUN);
  await player.until(({ frames, shown }) => Number(frames) >= 24 && Number(shown) >= 0);
  await player.page.route("**/longtake/attach", (route) => route.fulfill({ json: { takes: [] } }));
  await player.page.route("**/longtake/takes/*", (route) => route.fulfill({ status: 404, json: { error: "gone" } }));
  await kill();
  server.alive = server.anew = true;
  await player.root.getByText("This preview is no longer on the server").waitFor();
  for (const name of [/LIVE/, "Pause run", "Stop"]) assert.equal(await player.button(name).isVisible(), false, String(name));
}, { prepare, errors: /404|WebSocket/ }));

test("a page by http from another machine shows its run, too", onPage(async (player) => {
  await player.finished({ frames: 24 });
  await player.sees(23);
}, { prepare: (page) => page.addInitScript(() => Reflect.deleteProperty(Crypto.prototype, "randomUUID")) }));
