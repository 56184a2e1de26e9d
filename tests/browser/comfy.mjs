// @ts-check
/** The player inside ComfyUI's own page. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { PlayerPage, URL, browser, withinLimit } from "./harness.mjs";

const EXAMPLE = new globalThis.URL("../../example_workflows/1_text_to_stream.json", import.meta.url);
const SETTINGS = {
  "Comfy.TutorialCompleted": true,
  "Comfy.OnboardingCoachmarks.Seen": ["appMode"], // else a dialog lies over app mode
  "Comfy.Workflow.Persist": true, // another test may have switched it off in this core
  "Comfy.Minimap.Visible": false, // it lies over what stands at the lower right
  "Comfy.Workflow.ShowMissingModelsWarning": false,
  "Comfy.Workflow.WarnBlueprintOverwrite": false,
};
const START_MS = 120_000;
/** Console messages of the front end itself: missing optional packages, blocked pages, requests cut
 * off by a reload, and an early access to one of its own getters. */
const NOT_OURS = /WebSocket connection|status of 404|templates|Content Security Policy|Fetch API cannot load|Failed to fetch|before initialization/;

/** @typedef {{name: string, vue: boolean, subgraph: boolean}} Where which node renderer, and inside
 * a subgraph? */

/** @type {Where[]} */
export const PLACES = [
  { name: "classic", vue: false, subgraph: false },
  { name: "classic, in a subgraph", vue: false, subgraph: true },
  { name: "Nodes 2.0", vue: true, subgraph: false },
  { name: "Nodes 2.0, in a subgraph", vue: true, subgraph: true },
];

/**
 * Register cases that must hold with both renderers, at the root and in a subgraph.
 * @param {Record<string, (canvas: CanvasPage) => Promise<void>>} cases by what they show
 */
export function inEachPlace(cases) {
  for (const place of PLACES) {
    for (const [shows, act] of Object.entries(cases)) test(`${place.name}: ${shows}`, onCanvas(place, act));
  }
}

/** The page shared by cases of one renderer, because opening a page takes longer than most cases.
 * @type {{vue: boolean, page: import("playwright-core").Page, said: string[]}|null} */
let opened = null;

/**
 * Return a test in ComfyUI's page; any console error except the usual ones fails it.
 * @param {Where} where @param {(canvas: CanvasPage) => Promise<void>} act
 */
export function onCanvas(where, act) {
  return async () => {
    if (opened?.vue !== where.vue) await close();
    opened ??= await open(where.vue);
    const { page, said } = opened;
    said.length = 0;
    try {
      const canvas = new CanvasPage(page, where);
      await canvas.load();
      await withinLimit(act(canvas));
      assert.deepEqual(said.filter((text) => !NOT_OURS.test(text)), []);
    } catch (error) {
      await close(); // the next case gets a fresh page and an empty queue
      throw error;
    }
  };
}

/** Open ComfyUI's page. @param {boolean} vue */
async function open(vue) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 } });
  context.setDefaultTimeout(START_MS);
  const settings = { ...SETTINGS, "Comfy.VueNodes.Enabled": vue };
  await context.request.post(`${URL}/api/settings`, { data: settings });
  const page = await context.newPage();
  /** @type {string[]} */
  const said = [];
  page.on("console", (message) => message.type() === "error" && said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error.stack)));
  await page.addInitScript(() => localStorage.setItem("Comfy.userId", "default"));
  await page.goto(URL);
  await ready(page);
  return { vue, page, said };
}

/** Close the page, if one is open, and cancel its queue. */
async function close() {
  const context = opened?.page.context();
  opened = null;
  await context?.request.post(`${URL}/api/queue`, { data: { clear: true } });
  await context?.request.post(`${URL}/api/interrupt`, { data: {} });
  await context?.close();
}

/** @param {import("playwright-core").Page} page */
async function ready(page) {
  await page.waitForFunction(() => window.app?.extensionManager && app.graph && app.canvas?.ctx
    && window.LiteGraph?.registered_node_types?.NumberFrames);
  await page.waitForFunction(() => !app.extensionManager.spinner); // then its own last workflow is in place
  await page.waitForFunction(() => !document.querySelector(".p-blockui-mask"));
}

/** ComfyUI's page with the first example, whose pictures are numbered. */
export class CanvasPage extends PlayerPage {
  /** @param {import("playwright-core").Page} page @param {Where} where
   * @param {import("playwright-core").Locator} [root] where there are several players */
  constructor(page, where, root) {
    super(page, root);
    this.where = where;
    this.limitMs = 90_000;
  }

  /** Open a new workflow and close all others. */
  async load() {
    const workflow = { ...JSON.parse(readFileSync(EXAMPLE, "utf8")), id: randomUUID() };
    await this.page.evaluate(loadAlone, workflow);
    await this.page.evaluate(number);
    if (this.where.subgraph) await this.page.evaluate(enclose);
    await this.look();
  }

  /** Reload the page once it has stored the graph as it is: a short shot may end before. */
  async reload() {
    await this.page.waitForFunction(() => {
      const { id } = app.rootGraph ?? app.graph;
      const stored = [localStorage, sessionStorage].flatMap((store) => Object.values(store));
      return stored.some((text) => text.includes(id) && text.includes("NumberFrames"));
    });
    await this.page.reload();
    await ready(this.page);
    await this.look();
  }

  /** Close the tab, and open the same workflow in a new one, which the server takes for another page. */
  async reopen() {
    const workflow = await this.page.evaluate(() => (app.rootGraph ?? app.graph).serialize());
    await this.page.evaluate(() => {
      window.name = ""; // the host keeps its page's id there, too
      sessionStorage.clear();
    });
    await this.page.reload();
    await ready(this.page);
    await this.page.evaluate(loadAlone, workflow);
    await this.look();
  }

  /** Close what ComfyUI opened over the canvas, such as an error. */
  async closeDialogs() {
    await this.page.keyboard.press("Escape");
    await this.page.waitForFunction(() => !document.querySelector("[role=dialog]"));
  }

  /** Open another workflow, and come back. */
  async leaveAndReturn() {
    await this.page.evaluate(() => app.extensionManager.command.execute("Comfy.NewBlankWorkflow"));
    await this.root.waitFor({ state: "detached" });
    await this.openTab(-2); // ours; the blank one is the last
  }

  /** Move a node and undo it: the host makes all nodes anew, and their players. */
  async moveAndUndo() {
    await this.page.evaluate(() => {
      app.graph.beforeChange();
      app.graph.nodes[0].pos = [app.graph.nodes[0].pos[0] - 30, app.graph.nodes[0].pos[1]];
      app.graph.afterChange();
    });
    const before = await this.root.elementHandle();
    await this.page.evaluate(() => app.extensionManager.command.execute("Comfy.Undo"));
    await this.page.waitForFunction((element) => !element?.isConnected, before);
  }

  /** Click the tab of an open workflow; the pointer leaves it, because the host tells of a tab below the pointer
   * in a dialog. @param {number} at from the left, or below 0 from the right */
  async openTab(at) {
    await this.page.locator(".workflow-label").nth(at).click();
    await this.page.mouse.move(0, 0);
    await this.look();
  }

  /** Bring the preview node into view, opening its subgraph. */
  async look() {
    await this.page.waitForFunction(() => {
      const root = app.rootGraph ?? app.graph;
      const host = root.nodes.find((/** @type {any} */ node) => node.subgraph);
      if (host) app.canvas.setGraph(host.subgraph);
      const node = app.canvas.graph.nodes.find((/** @type {any} */ each) => each.comfyClass === "LongtakePreview");
      if (!node) return false;
      app.canvas.ds.scale = 1;
      app.canvas.ds.offset = [300 - node.pos[0], 150 - node.pos[1]];
      app.canvas.setDirty(true, true);
      return true;
    });
    await this.root.waitFor();
    await this.#standsStill();
  }

  /** Wait until the player stays at one place of the window. With Nodes 2.0 it follows the canvas some frames
   * later, and a busy page draws few frames: until then a click or a turn of the wheel meets something else. */
  async #standsStill() {
    const handle = await this.root.elementHandle();
    await this.page.waitForFunction((root) => new Promise((resolve) => {
      const place = () => JSON.stringify(root?.getBoundingClientRect());
      const before = place();
      requestAnimationFrame(() => requestAnimationFrame(() => {
        const { left = -1, top = -1 } = root?.getBoundingClientRect() ?? {};
        resolve(place() === before && left >= 0 && top >= 0 && left < innerWidth && top < innerHeight);
      }));
    }), handle);
  }

  /** Press Run for a shot of some seconds; `pace`: minimum seconds per chunk.
   * @param {number} seconds @param {{seed?: number, pace?: number}} [how] */
  async run(seconds, { seed = anySeed(), pace = 0 } = {}) {
    await this.set("LongtakeSampler", { seed, cfg: 1, width: 96, height: 64, length: seconds, length_unit: "seconds" });
    await this.set("LongtakeSchedule", { steps: 1 });
    await this.set("NumberFrames", { pace });
    await this.page.evaluate(() => app.queuePrompt(0, 1));
  }

  /** Set widgets of the one node of a type, once it is there: a busy machine's page may clear and restore its
   * graph again after a reload. @param {string} type @param {Record<string, any>} values */
  async set(type, values) {
    await this.page.waitForFunction(({ type, values }) => {
      const root = app.rootGraph ?? app.graph;
      const nodes = [root, ...root.subgraphs.values()].flatMap((graph) => graph.nodes);
      const node = nodes.find((each) => each.comfyClass === type);
      if (!node) return false;
      for (const [name, value] of Object.entries(values)) {
        node.widgets.find((/** @type {any} */ widget) => widget.name === name).value = value;
      }
      return true;
    }, { type, values });
  }

  /** What a widget of the one node of a type says. @param {string} type @param {string} name */
  get(type, name) {
    return this.page.evaluate(({ type, name }) => {
      const root = app.rootGraph ?? app.graph;
      const node = root.nodes.find((/** @type {any} */ each) => each.comfyClass === type);
      return node.widgets.find((/** @type {any} */ widget) => widget.name === name).value;
    }, { type, name });
  }

  /** Return the workflow in API form. @returns {Promise<Record<string, any>>} */
  prompt() {
    return this.page.evaluate(async () => (await app.graphToPrompt()).output);
  }

  /** Stand still, and see these frames of a short shot (each has pixels of the bar). @param {number[]} frames */
  async seesEach(...frames) {
    await this.slider.press("ArrowLeft");
    const { length } = await this.data();
    for (const frame of frames) {
      await this.scrubTo(frame, Number(length));
      await this.sees(frame);
    }
  }
}

/** A seed that no journal contains. */
export function anySeed() {
  return Math.floor(Math.random() * 1e9);
}

/** Return whether the Fork node is selected, in the graph on the canvas, within the window and legible, in the page. */
export function forkInView() {
  const { graph, ds, selectedItems } = app.canvas;
  const fork = graph.nodes.find((/** @type {any} */ node) => node.comfyClass === "LongtakeEditRollout");
  if (!fork || !selectedItems.has(fork)) return false;
  const [x, y] = [0, 1].map((axis) => (fork.pos[axis] + fork.size[axis] / 2 + ds.offset[axis]) * ds.scale);
  return ds.scale > 0.7 && x > 0 && y > 0 && x < innerWidth && y < innerHeight;
}

/** Open a workflow and close every other. @param {any} workflow */
async function loadAlone(workflow) {
  await app.loadGraphData(workflow);
  const { openWorkflows, activeWorkflow, closeWorkflow } = app.extensionManager.workflow;
  for (const other of [...openWorkflows]) {
    if (other !== activeWorkflow) await closeWorkflow(other);
  }
}

/** Insert the test's numbering node between decoder and preview, and leave space for the player. */
function number() {
  const find = (/** @type {string} */ type) => app.graph.nodes.find((/** @type {any} */ node) => node.comfyClass === type);
  const [decoder, preview] = [find("LongtakeVAEDecode"), find("LongtakePreview")];
  const numbers = LiteGraph.createNode("NumberFrames");
  app.graph.add(numbers);
  numbers.pos = [preview.pos[0], preview.pos[1] - 160];
  decoder.connect(0, numbers, 0);
  numbers.connect(0, preview, 0);
  const save = find("LongtakeSaveVideo");
  numbers.connect(0, save, 0);
  preview.setSize([420, 520]);
  save.pos = [preview.pos[0] + 1200, preview.pos[1]];
}

/** Turn the preview and the numbering node into a subgraph. */
function enclose() {
  const inside = app.graph.nodes.filter((/** @type {any} */ node) =>
    ["NumberFrames", "LongtakePreview"].includes(node.comfyClass));
  app.graph.convertToSubgraph(new Set(inside));
}
