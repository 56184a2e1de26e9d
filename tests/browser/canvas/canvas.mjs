// @ts-check
/**
 * Drives ComfyUI's own front end: `node canvas.mjs URL < JOB.json > RESULT.json`.
 * A job is a list of steps, each {do: NAME, ...}; the result is the list of their return values.
 */
import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";
import { graphPicture } from "./graph_picture.mjs";
import * as measures from "./measures.mjs";

const LIMIT_MS = 120_000;
const BORDER_GAP = 100; // pixels between a blueprint's nodes and the lists of its inputs and outputs
const PROMPT_HEIGHT = 174; // pixels that a blueprint's prompt has beyond the least
const SETTINGS = {
  "Comfy.TutorialCompleted": true,
  "Comfy.Workflow.ShowMissingNodesWarning": true,
  "Comfy.Graph.CanvasMenu": false,
  "Comfy.Minimap.Visible": false,
  "Comfy.Workflow.Persist": false,
  "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
  "Comfy.NodeBadge.NodeIdBadgeMode": "None",
};

/** @typedef {import("playwright-core").Page} Page */
/** @typedef {Record<string, {name: string, directory: string, url: string}[]>} Models downloads by node */
/** @typedef {{title: string, text: string, place: [number, number, number, number]}} Note */
/** @typedef {Record<string, [number, number, number, number]>} Places x, y, width, height by id */
/** @typedef {{inputs: [number, string][], outputs: number[]}} View what app mode shows: widgets and nodes */

const STEPS = { openLate, example, prompt, blueprint, picture, saysIn, textOf, dropFile, graphPicture, ...measures };

const [url] = process.argv.slice(2);
const job = JSON.parse(await text(process.stdin));
const browser = await chromium.launch({
  executablePath: process.env.LONGTAKE_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
try {
  const page = await open();
  const results = [];
  for (const { do: name, ...given } of job) {
    results.push(await STEPS[/** @type {keyof typeof STEPS} */ (name)](page, given));
  }
  process.stdout.write(JSON.stringify(results));
} finally {
  await browser.close();
}

/** Open the front end with an empty graph. @returns {Promise<Page>} */
async function open() {
  const page = await browser.newPage({ viewport: { width: 1600, height: 1000 } });
  page.setDefaultTimeout(LIMIT_MS);
  await page.addInitScript(() => {
    localStorage.setItem("Comfy.userId", "default");
    window.nodeDefs = () => /** @type {any} */ (document.querySelector("#vue-app"))
      .__vue_app__.config.globalProperties.$pinia._s.get("nodeDef"); // the store that the node search reads
  });
  await page.context().request.post(`${url}/api/settings`, { data: SETTINGS }); // a first page opens a dialog
  await page.goto(url);
  await ready(page);
  return page;
}

/** Open the front end again on a busy machine, which restores its last workflow late; return whether it is
 * still at it. @param {Page} page @param {{ms: number}} given */
async function openLate(page, { ms }) {
  await page.evaluate(() => app.extensionManager.setting.set("Comfy.Workflow.Persist", true));
  await page.route("**/userdata**", async (route) => {
    await new Promise((resolve) => setTimeout(resolve, ms));
    await route.continue();
  });
  await page.reload();
  await ready(page);
  return await page.evaluate(() => app.extensionManager.spinner);
}

/** @param {Page} page */
async function ready(page) {
  await page.waitForFunction(() => window.app?.extensionManager && app.graph && app.canvas?.ctx);
  await page.waitForFunction(() => window.LiteGraph?.registered_node_types?.LongtakeSampler);
  await page.waitForFunction(() => !app.extensionManager.spinner); // then its own last workflow is in place
}

/**
 * Return an API-form workflow as the front end saves it, in canvas and in API form.
 * @param {Page} page
 * @param {{api: object, places: Places, groups: {title: string, bounding: number[]}[], note: Note,
 *   view?: View|null, models?: Models}} given
 */
async function example(page, given) {
  await load(page, given);
  return await page.evaluate(async () => ({
    canvas: app.graph.serialize(),
    api: (await app.graphToPrompt()).output,
  }));
}

/**
 * Load an API-form workflow and place its nodes.
 * @param {Page} page
 * @param {{api: object, places: Places, groups?: {title: string, bounding: number[]}[], note?: Note|null,
 *   view?: View|null, models?: Models}} given
 */
async function load(page, { api, places, groups = [], note = null, view = null, models = {} }) {
  // A widget without a value in the file would keep the value from the previous graph.
  await page.reload();
  await ready(page);
  await page.evaluate(async ({ api, places, groups, note, view, models }) => {
    await app.loadApiJson(api, "longtake");
    if (view) app.graph.extra.linearData = view;
    for (const node of app.graph.nodes) {
      const [x, y, width, height] = places[node.id];
      node.pos = [x, y];
      node.setSize([width, Math.max(height, node.computeSize()[1])]);
      if (models[node.id]) node.properties.models = models[node.id];
      delete node.properties.longtake_preview; // each user's node has one of its own
    }
    for (const { title, bounding } of groups) {
      const group = new LiteGraph.LGraphGroup(title);
      group.configure({ id: -1, title, bounding, color: "#3f789e", font_size: 24, flags: {} });
      app.graph.add(group);
    }
    if (!note) return;
    const made = LiteGraph.createNode("MarkdownNote");
    app.graph.add(made);
    made.title = note.title;
    made.pos = note.place.slice(0, 2);
    made.setSize(note.place.slice(2));
    made.widgets[0].value = note.text;
    app.graph._nodes.unshift(app.graph._nodes.pop()); // first in the file
  }, { api, places, groups, note, view, models });
}

/** Return the API form of a canvas workflow. @param {Page} page @param {{canvas: object}} given */
async function prompt(page, { canvas }) {
  return await page.evaluate(async (canvas) => {
    await app.loadGraphData(canvas);
    return (await app.graphToPrompt()).output;
  }, canvas);
}

/**
 * Fold some nodes of a workflow into a subgraph; return the whole in API form, and the subgraph alone.
 * @param {Page} page
 * @param {{api: object, places: Places, inside: string[], promoted: [string, string[]][],
 *   outputs: string[], names: [string, string][], title: string}} given `promoted`: an input, and the nodes that
 *   take it; `names` of outputs by the inner node that they come from
 */
async function blueprint(page, given) {
  await load(page, given);
  return await page.evaluate(async ({ inside, promoted, outputs, names, title, more, gap }) => {
    const chosen = new Set(app.graph.nodes.filter((/** @type {any} */ node) => inside.includes(String(node.id))));
    const { node, subgraph } = app.graph.convertToSubgraph(chosen);
    subgraph.name = node.title = title;
    for (const [name, takers] of promoted) {
      const slots = takers.map((id) => {
        const inner = subgraph.getNodeById(Number(id));
        return { inner, slot: inner.inputs.find((/** @type {any} */ each) => each.name === name) };
      });
      const input = subgraph.addInput(name, slots[0].slot.type);
      for (const { inner, slot } of slots) input.connect(slot, inner);
    }
    for (const output of [...subgraph.outputs]) {
      const source = subgraph.getLink(output.linkIds[0])?.origin_id;
      const name = names.find(([id]) => id === String(source))?.[1];
      if (name) subgraph.renameOutput(output, name); // its label
    }
    for (const output of [...subgraph.outputs]) {
      if (!outputs.includes(output.label ?? output.name)) subgraph.removeOutput(output);
    }
    const boxes = subgraph.nodes.map((/** @type {any} */ each) => [...each.pos, each.pos[0] + each.size[0]]);
    const [left, top] = [0, 1].map((axis) => Math.min(...boxes.map((/** @type {number[]} */ box) => box[axis])));
    const right = Math.max(...boxes.map((/** @type {number[]} */ box) => box[2]));
    const { inputNode, outputNode } = subgraph;
    inputNode.arrange(); // its size, now with all slots
    [inputNode.pos, outputNode.pos] = [[left - gap - inputNode.size[0], top], [right + gap, top]];
    for (const border of [inputNode, outputNode]) border.arrange(); // the places of the slots
    const { output } = await app.graphToPrompt();
    for (const other of [...app.graph.nodes]) {
      if (other !== node) app.graph.remove(other);
    }
    node.pos = [0, 0];
    node.setSize([400, node.computeSize()[1] + more]); // the prompt's box takes it
    return { prompt: output, canvas: app.graph.serialize() };
  }, { ...given, more: PROMPT_HEIGHT, gap: BORDER_GAP });
}

/**
 * Return a PNG of one node alone, in base64.
 * @param {Page} page
 * @param {{type: string, width: number, vue?: boolean, values?: Record<string, string>}} given `values` of
 *   widgets that have no default here, such as files
 */
async function picture(page, { type, width, vue = false, values = {} }) {
  await page.evaluate(async ({ type, width, vue, values }) => {
    await app.extensionManager.setting.set("Comfy.VueNodes.Enabled", vue);
    app.graph.clear();
    app.graph.last_node_id = Math.floor(performance.now()); // a reused id brings old values
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = [0, 0];
    const elements = node.widgets?.filter( // without a height of their own
      (/** @type {any} */ one) => one.element && !one.options.getMinHeight).length ?? 0;
    const tall = type === "LongtakePreview" ? 300 : 80; // the player, or a few lines of text
    node.setSize([width, node.computeSize()[1] + tall * elements]);
    for (const [name, value] of Object.entries(values)) {
      const widget = node.widgets.find((/** @type {any} */ each) => each.name === name);
      widget.options.values = [value]; // the host marks a value that no file has
      widget.value = value;
      const fit = node.widgets.find((/** @type {any} */ each) => each.name === "fit");
      if (fit) fit.element.textContent = ""; // of the value before
      widget.callback?.(value);
    }
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [200, 160];
    app.canvas.deselectAll?.();
    app.canvas.setDirty(true, true);
  }, { type, width, vue, values });
  await page.waitForFunction(() => { // a loader's line, which the server answers
    const fit = app.graph.nodes[0].widgets?.find((/** @type {any} */ each) => each.name === "fit");
    return !fit || fit.element.textContent;
  });
  await page.waitForTimeout(400);
  if (await page.getByRole("dialog").count()) throw new Error(`A dialog covers the picture of ${type}.`);
  const box = await page.evaluate(() => {
    const [node] = app.graph.nodes;
    const rect = app.canvas.canvas.getBoundingClientRect();
    const [x, y, w, h] = node.boundingRect ?? node.getBounding();
    const [dx, dy] = app.canvas.ds.offset;
    return { x: rect.x + x + dx - 12, y: rect.y + y + dy - 12, width: w + 24, height: h + 24 };
  });
  const png = await page.screenshot({ clip: box });
  return { png: png.toString("base64"), ...box };
}

/**
 * Return a node's texts in a language: its title and its widgets' labels.
 * @param {Page} page
 * @param {{locale: string, type: string}} given
 */
async function saysIn(page, { locale, type }) {
  await page.evaluate((locale) => app.extensionManager.setting.set("Comfy.Locale", locale), locale);
  await page.reload();
  await ready(page);
  return await page.evaluate((type) => {
    const node = LiteGraph.createNode(type);
    return {
      title: node.title,
      inputs: node.inputs.map((/** @type {any} */ one) => one.label ?? one.localized_name),
      widgets: node.widgets.map((/** @type {any} */ one) => one.label ?? one.name),
    };
  }, type);
}

/**
 * Run a workflow and return the text in one of its nodes.
 * @param {Page} page
 * @param {{api: object, node: string, has: string}} given `has` is a part of that text
 */
async function textOf(page, { api, node, has }) {
  await page.evaluate(async (api) => {
    await app.loadApiJson(api, "longtake");
    await app.queuePrompt(0, 1);
  }, api);
  const found = await page.waitForFunction(({ node, has }) => {
    const texts = app.graph.getNodeById(node)?.widgets?.map((one) => `${one.value}`);
    return texts?.find((/** @type {string} */ text) => text.includes(has));
  }, { node, has });
  return await found.jsonValue();
}

/**
 * Drop an output file on an empty canvas, as from the user's folder; return what then stands there.
 * @param {Page} page
 * @param {{path: string, name: string, type: string}} given `path` leads to the server's /view
 */
async function dropFile(page, { path, name, type }) {
  await page.reload(); // a graph of its own, without the one dropped before
  await ready(page);
  return await page.evaluate(async ({ path, name, type }) => {
    app.graph.clear();
    const answer = await fetch(path);
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    const dropped = new DataTransfer();
    dropped.items.add(new File([await answer.blob()], name, { type }));
    const target = document.querySelector("#graph-canvas");
    target?.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }));
    for (let turn = 0; turn < 100 && !app.graph.nodes.length; turn++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const prompt = await app.graphToPrompt();
    return { canvas: prompt.workflow, api: prompt.output };
  }, { path, name, type });
}
