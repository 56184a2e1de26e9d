// @ts-check
/** Small nodes, both themes, keyboards and screen readers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { LANGUAGES } from "../../web/player/words.mjs";
import { eventually, onPage, useBrowser } from "./harness.mjs";

useBrowser();
const NARROW = { viewport: { width: 225, height: 640 } };
const RUN = { frames: 480, chunk_s: 1, refined_s: 1, prompts: [[0, "a red ball"], [24, "a blue ball"]] };

/** Return the names of controls that stick out of the player or overlap. @param {Element} root */
function misplaced(root) {
  const outer = root.getBoundingClientRect();
  const controls = [...root.querySelectorAll("button, select, [role=slider], textarea, input")];
  const boxes = controls.map((control) => ({ control, box: control.getBoundingClientRect() }))
    .filter(({ box }) => box.width > 0);
  const out = boxes.filter(({ box }) => box.left < outer.left - 0.5 || box.right > outer.right + 0.5);
  const over = boxes.filter(({ box: one }, index) => boxes.slice(index + 1).some(({ box: other }) =>
    one.left < other.right - 1 && other.left < one.right - 1 && one.top < other.bottom - 1 && other.top < one.bottom - 1));
  return [...out, ...over].map(({ control }) => control.getAttribute("aria-label") ?? control.textContent);
}

test("at 225 pixels every control is inside and none covers another", onPage(async (player) => {
  await player.page.addStyleTag({ content: "body { padding: 0 !important; margin: 0 }" });
  await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 24);
  await player.button("Edit prompt").click();
  assert.equal((await player.root.boundingBox())?.width, 225);
  assert.deepEqual(await player.root.evaluate(misplaced), []);
  const stage = await player.root.locator(".lt-stage").boundingBox();
  assert.ok(stage && stage.height >= 84);
}, NARROW));

test("at 225 pixels it has room for its words in every language", async () => {
  for (const locale of LANGUAGES) {
    await onPage(async (player) => {
      await player.page.addStyleTag({ content: "body { padding: 0 !important; margin: 0 }" });
      await player.start(RUN);
      await player.until(({ frames }) => Number(frames) >= 24);
      await player.root.locator(".lt-run button").last().click();
      assert.deepEqual(await player.root.evaluate(misplaced), [], locale);
    }, { ...NARROW, locale })();
  }
});

/** Return the player's texts with letters outside of «», which mark translated text. @param {Element} root */
function untranslated(root) {
  const own = ["aria-label", "aria-valuetext", "title", "placeholder"];
  const elements = [root, ...root.querySelectorAll("*")];
  const texts = elements.flatMap((each) => own.map((name) => each.getAttribute(name) ?? ""));
  for (const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT); walker.nextNode();) {
    texts.push(walker.currentNode.textContent ?? "");
  }
  const notWords = /«[^»]*»|a (red|blue) ball|LoRA|fps|[GM]B/g;
  return texts.filter((text) => /[a-z]{2}/i.test(text.replace(notWords, "")));
}

test("a long reason is read from its beginning, and leaves some of the picture", onPage(async (player) => {
  await player.start({ frames: 24, first_s: 0, chunk_s: 0, end: "error" });
  await player.until(({ state, shown }) => state === "error" && Number(shown) >= 0);
  const banner = player.root.locator(".lt-banner");
  await banner.getByText("NaN in layer 3").waitFor();
  const [top, height, scrolls] = await banner.evaluate((element) => {
    element.textContent = "Save Video (Stream): the reason goes on and on. ".repeat(20);
    element.scrollTo(0, 9999);
    const end = element.scrollTop;
    element.scrollTo(0, 0);
    const stage = /** @type {HTMLElement} */ (element.parentElement);
    return [element.offsetTop, stage.clientHeight, end > 0];
  });
  assert.ok(top >= height / 5 && scrolls, `${top} of ${height}`);
}, { viewport: { width: 257, height: 420 } }));

test("in another language nothing of its own is left in English", onPage(async (player) => {
  await player.root.getByText("«No video yet»").waitFor();
  assert.equal(await player.page.locator("html").getAttribute("lang"), "de", "screen readers speak it so");
  await player.start({ ...RUN, sparse: true });
  await player.until(({ frames }) => Number(frames) >= 24);
  assert.deepEqual(await player.root.evaluate(untranslated), []);
  await player.button("«Edit prompt»").click();
  await player.root.getByLabel("«Prompt from the next chunk on»").fill("a red ball a blue ball");
  await player.button("«Apply»").click();
  await player.root.getByText("«applied at").waitFor();
  await player.slider.hover();
  assert.deepEqual(await player.root.evaluate(untranslated), []);
  await player.button("«Stop»").click();
  await player.root.getByText("«Stopped").waitFor();
  assert.deepEqual(await player.root.evaluate(untranslated), []);
}, {
  locale: "de",
  prepare: (page) => page.route("**/words/de.json", async (route) => {
    const words = await (await route.fetch()).json();
    const marked = Object.keys(words).map((english) => [english, `«${english}»`]);
    await route.fulfill({ json: Object.fromEntries(marked) });
  }),
}));

test("every control has a name and is reached with Tab alone", onPage(async (player) => {
  await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 24);
  const reached = [];
  for (let press = 0; press < 30; press++) {
    await player.page.keyboard.press("Tab");
    reached.push(await player.page.evaluate(() => {
      const { activeElement: here } = document;
      return here?.getAttribute("aria-label") ?? here?.textContent ?? "";
    }));
  }
  const wanted = [/^Picture/, /^Position/, /^Previous frame/, /^Pause playback/, /^Next frame/, /^LIVE/, /speed/, /^Loop/,
    /^Save/, /^Fullscreen/, /^Pause run/, /^Stop/, /^Edit prompt/];
  for (const name of wanted) assert.ok(reached.some((label) => name.test(label)), `${name} in ${reached}`);
}));

test("Space plays and pauses from the picture, and from a button presses only that", onPage(async (player) => {
  await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 24);
  const stage = player.root.getByRole("group", { name: /^Picture/ });
  await stage.press(" ");
  await player.until(({ playing }) => playing === "false");
  await player.button("Loop (O)").press(" ");
  await player.until(({ playing }) => playing === "false");
  await eventually(() => player.button("Loop (O)").getAttribute("aria-pressed"), "true");
  await stage.press("l");
  await player.until(({ playing, following }) => playing === "true" && following === "true");
}));

test("the bar says where it stands in words", onPage(async (player) => {
  await player.finished({ frames: 48 });
  await player.slider.press("ArrowRight");
  await player.slider.press("End");
  await player.sees(47);
  await eventually(() => player.slider.getAttribute("aria-valuetext"), "0:02 of 0:03, frame 47");
  assert.equal(await player.slider.getAttribute("aria-valuemax"), "47");
}));

test("before anything has run it says what to do", onPage(async (player) => {
  await player.root.getByText("No video yet").waitFor();
  await player.root.getByText("This address lacks its key").waitFor();
  assert.equal(await player.button("Pause run").isVisible(), false);
}));

/** Return the lowest contrast of text against its background. @param {Element} root */
function lowestContrast(root) {
  const context = /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));
  const rgba = (/** @type {string} */ color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = (/** @type {number[]} */ [r, g, b]) => [r, g, b]
    .map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (/** @type {Element|null} */ element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = rgba(getComputedStyle(each).backgroundColor);
      if (color[3] > 250) return color;
    }
    return [255, 255, 255, 255];
  };
  return [...root.querySelectorAll("dt, dd, button, p, strong, .lt-time, li")]
    .filter((element) => element.textContent && element.getBoundingClientRect().width && !element.matches(":disabled"))
    .map((element) => {
      const [one, other] = [light(rgba(getComputedStyle(element).color)), light(behind(element))];
      const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      return { ratio, what: element.textContent };
    })
    .sort((one, other) => one.ratio - other.ratio)[0];
}

/** @param {import("./harness.mjs").PlayerPage} player */
async function readable(player) {
  await player.start(RUN);
  await player.until(({ frames }) => Number(frames) >= 24);
  const lowest = await player.root.evaluate(lowestContrast);
  assert.ok(lowest.ratio >= 4.5, `${lowest.ratio} at ${lowest.what}`);
}

test("text can be read in the dark theme", onPage(readable, { colorScheme: "dark" }));
test("text can be read in the light theme", onPage(readable, { colorScheme: "light" }));

test("with forced colours what is pressed is seen, and whether LIVE follows", onPage(async (player) => {
  await player.start(RUN);
  await player.until(({ frames, following }) => Number(frames) >= 24 && following === "true");
  const loop = player.button("Loop (O)");
  const outline = () => loop.evaluate((button) => getComputedStyle(button).outlineStyle);
  assert.equal(await outline(), "none");
  await loop.dispatchEvent("click"); // without the focus, which has an outline of its own
  await eventually(outline, "solid");
  const dot = () => player.root.locator(".lt-dot").evaluate((each) => getComputedStyle(each).backgroundColor);
  const live = await dot();
  await player.slider.press("ArrowLeft");
  await player.until(({ following }) => following === "false");
  await eventually(async () => await dot() !== live, true);
}, { forcedColors: "active" }));
