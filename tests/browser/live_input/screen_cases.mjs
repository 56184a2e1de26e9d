// @ts-check
/** A tab that the browser shares: its picture, a refusal, and its end, on the plain page. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { URL, eventually, onPage, useBrowser } from "../harness.mjs";
import { TITLE, colours, knownTab } from "./known_tab.mjs";

useBrowser(`--auto-select-tab-capture-source-by-title=${TITLE}`);

/** @typedef {import("../harness.mjs").PlayerPage} PlayerPage */

/** @param {PlayerPage} player */
const pad = (player) => player.root.locator("[aria-label='Live input']");

/** Start a run that wants a screen, and press the button. @param {PlayerPage} player */
async function share(player) {
  const take = await player.start({ wish: "screen", frames: 480, chunk_s: 60 });
  await eventually(() => pad(player).isVisible(), true);
  await pad(player).getByRole("button", { name: "Share a screen or tab" }).click();
  return take;
}

/** The newest thing that came in for a run. @param {PlayerPage} player @param {string} take */
async function news(player, take) {
  const answer = await player.page.request.get(`${URL}/fake/input/${take}`);
  const body = await answer.body();
  return answer.headers()["content-type"] === "image/jpeg" ? body : body.toString();
}

test("the picture of a tab reaches the run, no larger than the run needs", onPage(async (player) => {
  await knownTab(player.page.context());
  await player.page.bringToFront();
  const take = await share(player);
  /** @type {string|Buffer} */
  let picture = "";
  await eventually(async () => typeof (picture = await news(player, take)), "object");
  await eventually(async () => {
    const newest = await news(player, take); // the first pictures of a tab may be blank
    if (typeof newest === "object") picture = newest;
    const { left, right } = await colours(player.page, picture);
    return left[0] > 200 && left[2] < 60 && right[0] < 60 && right[2] > 200;
  }, true);
  const { width, height } = await colours(player.page, picture);
  assert.ok(width === 192 || height === 128, `${width}x${height}`);
  assert.ok(width >= 192 && height >= 128, `${width}x${height}`);
}));

test("a page behind the shared window sends as many pictures", onPage(async (player) => {
  await knownTab(player.page.context());
  await player.page.bringToFront();
  await share(player);
  let sent = 0;
  player.page.on("request", (request) => { sent += Number(request.method() === "POST" && /\/input$/.test(request.url())); });
  await eventually(() => sent > 20, true);
}, { prepare: (page) => page.addInitScript(asHidden) }));

/** Let a page repeat and encode as seldom as browsers let a page that was hidden for long. Headless ones hide none. */
function asHidden() {
  const MINUTE_MS = 60_000;
  const { setInterval } = window;
  window.setInterval = /** @type {any} */ ((/** @type {() => void} */ act) => setInterval(act, MINUTE_MS));
  HTMLCanvasElement.prototype.toBlob = (done) => void setTimeout(() => done(null), MINUTE_MS);
}

test("a server that answers late for a while goes on getting pictures", onPage(async (player) => {
  let [late, sent] = [false, 0];
  await player.page.route("**/longtake/alive", (route) => (late ? route.abort() : route.continue()));
  await knownTab(player.page.context());
  await player.page.bringToFront();
  await share(player);
  const button = (/** @type {string} */ name) => pad(player).getByRole("button", { name });
  await button("Stop sharing").waitFor();
  late = true;
  await eventually(() => player.root.getAttribute("data-connected"), "false");
  player.page.on("request", (request) => { sent += Number(request.method() === "POST" && /\/input$/.test(request.url())); });
  await eventually(() => sent > 5, true);
  assert.ok(await button("Stop sharing").isEnabled());
  late = false;
  await eventually(() => player.root.getAttribute("data-connected"), "true");
  assert.ok(await button("Stop sharing").isVisible());
}, { errors: /Failed to load resource/ }));

test("a tab that is closed has a sentence, and the run learns it", onPage(async (player) => {
  const tab = await knownTab(player.page.context());
  await player.page.bringToFront();
  const take = await share(player);
  await eventually(async () => typeof (await news(player, take)), "object");
  await tab.close();
  await eventually(() => pad(player).getByText("Sharing has ended; press the button to share again.").count(), 1);
  await eventually(() => news(player, take), "lost");
  assert.equal(await pad(player).getByRole("button", { name: "Share a screen or tab" }).count(), 1);
}));

test("a screen that is not allowed has a sentence, and the run learns it", onPage(async (player) => {
  await player.page.goto(`${URL}/?no-screens`);
  await player.root.waitFor();
  const take = await share(player);
  await eventually(() => pad(player).getByText(/did not allow it; allow it beside this page's address/).count(), 1);
  await eventually(() => news(player, take), "denied");
}, { errors: /display-capture|permissions policy/i }));

test("a player that takes another's place goes on with the picture; without one the sharing ends", onPage(async (player) => {
  await knownTab(player.page.context());
  await player.page.bringToFront();
  const take = await player.start({ wish: "screen", frames: 480, chunk_s: 60 });
  const found = await player.page.evaluate(async (token) => {
    const from = (/** @type {string} */ name) => import(`/web/player/${name}.mjs`);
    const [{ Player }, { Library }] = [await from("view/player"), await from("takes/library")];
    const library = new Library({ request: fetch.bind(window), fileUrl: () => null });
    await library.show(token, "", "");
    const session = library.open(token);
    const pause = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const begin = async () => {
      const begun = new Player(library.server, { emptyHint: () => "", keepLine: null });
      document.body.append(begun.element);
      begun.show(session);
      await pause(500);
      return begun;
    };
    const first = await begin();
    await first.inputPad.toggle();
    first.dispose();
    const second = await begin();
    await pause(3000);
    const says = second.inputPad.button.textContent;
    const track = session.capture?.stream.getTracks()[0];
    second.dispose();
    await pause(4000);
    return [says, track?.readyState, session.capture === undefined];
  }, take);
  assert.deepEqual(found, ["Stop sharing", "ended", true]);
}));
