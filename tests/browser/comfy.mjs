// @ts-check
/** The player inside ComfyUI's own page. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { PlayerPage, URL, browser } from "./harness.mjs";

const EXAMPLE = new globalThis.URL("../../example_workflows/text_to_stream.json", import.meta.url);
const SETTINGS = {
  "Comfy.TutorialCompleted": true,
  "Comfy.Workflow.ShowMissingModelsWarning": false,
  "Comfy.Workflow.WarnBlueprintOverwrite": false,
};
const START_MS = 120_000;
/** What the front end itself says: files of optional packages, pages it may not reach, requests
 * that a reload cuts short, a getter of its own that it asks too early. */
const NOT_OURS = /status of 404|templates|Content Security Policy|Fetch API cannot load|Failed to fetch|before initialization/;

/** @typedef {{vue: boolean, subgraph: boolean}} Where which node renderer, and inside a subgraph? */

/**
 * A test in ComfyUI's page, which must say nothing on the console that it does not always say.
 * @param {Where} where @param {(canvas: CanvasPage) => Promise<void>} act
 */
export function onCanvas(where, act) {
  return async () => {
    const context = await browser.newContext({ viewport: { width: 1500, height: 1000 } });
    context.setDefaultTimeout(START_MS);
    const settings = { ...SETTINGS, "Comfy.VueNodes.Enabled": where.vue };
    await context.request.post(`${URL}/api/settings`, { data: settings });
    const page = await context.newPage();
    /** @type {string[]} */
    const said = [];
    page.on("console", (message) => message.type() === "error" && said.push(message.text()));
    page.on("pageerror", (error) => said.push(String(error.stack)));
    try {
      const canvas = new CanvasPage(page, where);
      await canvas.open();
      await act(canvas);
      assert.deepEqual(said.filter((text) => !NOT_OURS.test(text)), []);
    } finally {
      await context.close();
    }
  };
}

/** ComfyUI's page with the first example in it, its pictures numbered. */
export class CanvasPage extends PlayerPage {
  /** @param {import("playwright-core").Page} page @param {Where} where */
  constructor(page, where) {
    super(page);
    this.where = where;
    this.limitMs = 180_000;
  }

  async open() {
    await this.page.addInitScript(() => localStorage.setItem("Comfy.userId", "default"));
    await this.page.goto(URL);
    await this.ready();
    await this.page.evaluate((workflow) => app.loadGraphData(workflow), JSON.parse(readFileSync(EXAMPLE, "utf8")));
    await this.page.evaluate(number);
    if (this.where.subgraph) await this.page.evaluate(enclose);
    await this.look();
  }

  async ready() {
    await this.page.waitForFunction(() => window.app?.extensionManager && app.graph && app.canvas?.ctx
      && window.LiteGraph?.registered_node_types?.NumberFrames);
    await this.page.waitForFunction(() => !document.querySelector(".p-blockui-mask"));
  }

  /** Bring the preview node into view, opening the subgraph that it is in. */
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
  }

  /** Press Run for a shot of so many seconds. @param {number} seconds @param {number} [seed] */
  async run(seconds, seed = Math.floor(Math.random() * 1e9)) {
    await this.page.evaluate(async ({ seconds, seed }) => {
      const root = app.rootGraph ?? app.graph;
      const set = (/** @type {string} */ type, /** @type {Record<string, any>} */ values) => {
        const graphs = [root, ...root.subgraphs.values()];
        const node = graphs.flatMap((graph) => graph.nodes).find((each) => each.comfyClass === type);
        for (const [name, value] of Object.entries(values)) {
          node.widgets.find((/** @type {any} */ widget) => widget.name === name).value = value;
        }
      };
      set("LongtakeSampler", { seed, cfg: 1, width: 96, height: 64, length: seconds, length_unit: "seconds" });
      set("LongtakeSchedule", { steps: 1 });
      await app.queuePrompt(0, 1);
    }, { seconds, seed });
  }
}

/** Put the test's numbers between decoder and preview, and leave room for the player. */
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
  save.pos = [preview.pos[0] + 600, preview.pos[1]];
}

/** Turn preview and numbers into a subgraph. */
function enclose() {
  const inside = app.graph.nodes.filter((/** @type {any} */ node) =>
    ["NumberFrames", "LongtakePreview"].includes(node.comfyClass));
  app.graph.convertToSubgraph(new Set(inside));
}
