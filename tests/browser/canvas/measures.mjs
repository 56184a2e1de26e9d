// @ts-check
/** Steps of canvas.mjs that measure what a user sees on ComfyUI's canvas. */

/** @typedef {import("playwright-core").Page} Page */

const WHOLE_GRAPH = { width: 3600, height: 2600 }; // pixels

/** Open a workflow with a renderer. @param {Page} page @param {{canvas: object, vue: boolean}} given */
async function show(page, { canvas, vue }) {
  await page.evaluate(async ({ canvas, vue }) => {
    await app.extensionManager.setting.set("Comfy.VueNodes.Enabled", vue);
    await app.loadGraphData(canvas);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [200, 160];
    app.canvas.setDirty(true, true);
  }, { canvas, vue });
  await page.waitForTimeout(800); // nodes settle after some frames
}

/** Return the heights of the nodes by type, in canvas pixels. @param {Page} page @returns {Promise<Record<string, number>>} */
function heights(page) {
  return page.evaluate(() => Object.fromEntries(app.graph.nodes.map((/** @type {any} */ node) => {
    const drawn = /** @type {HTMLElement|null} */ (document.querySelector(`[data-node-id="${node.id}"]`));
    return [node.type, Math.max(node.size[1], (drawn?.offsetHeight ?? 0) - LiteGraph.NODE_TITLE_HEIGHT)];
  })));
}

/** Run the workflow on the canvas to its end. @param {Page} page */
async function run(page) {
  await page.evaluate(() => new Promise((resolve) => {
    for (const end of ["execution_success", "execution_error"]) {
      window.comfyAPI.api.api.addEventListener(end, resolve, { once: true });
    }
    app.queuePrompt(0, 1);
  }));
  await page.waitForTimeout(1500); // pictures and videos load
}

/** Return the names that ComfyUI's node search finds, best first. @param {Page} page @param {{query: string}} given */
export async function search(page, { query }) {
  await page.waitForFunction(() => [...window.nodeDefs().visibleNodeDefs].some(({ python_module: module }) => module === "blueprint"));
  return await page.evaluate((query) =>
    window.nodeDefs().nodeSearchService.searchNode(query, [], { limit: 64 }).map((/** @type {any} */ each) => each.display_name), query);
}

/** Return how many lines of a blueprint's prompt are seen. @param {Page} page
 * @param {{canvas: object, vue: boolean}} given */
export async function promptLines(page, given) {
  await show(page, given);
  return await page.evaluate(() => {
    const [box] = [...document.querySelectorAll("textarea")].filter((each) => each.offsetHeight > 0 && /^0: /.test(each.value));
    const { lineHeight, fontSize, paddingTop, paddingBottom } = getComputedStyle(box);
    const line = Number.parseFloat(lineHeight) || 1.2 * Number.parseFloat(fontSize);
    return Math.floor((box.clientHeight - Number.parseFloat(paddingTop) - Number.parseFloat(paddingBottom)) / line);
  });
}

/** Return each group's title, the width that it needs and the width of the group. @param {Page} page
 * @param {{canvas: object}} given */
export async function groupTitles(page, { canvas }) {
  await show(page, { canvas, vue: false });
  return await page.evaluate(() => app.graph.groups.map((/** @type {any} */ group) => {
    const { ctx } = app.canvas;
    ctx.save();
    ctx.font = `${LiteGraph.GROUP_TEXT_SIZE}px ${LiteGraph.GROUP_FONT}`;
    const needed = ctx.measureText(group.title).width + LiteGraph.GROUP_TEXT_SIZE;
    ctx.restore();
    return [group.title, Math.round(needed), group.size[0]];
  }));
}

/** Open a workflow and run it, shortened, as if for the first time. @param {Page} page
 * @param {{canvas: object, vue: boolean, seconds: number}} given */
async function firstRun(page, { seconds, ...given }) {
  await show(page, given);
  await page.evaluate((seconds) => {
    const find = (/** @type {string} */ type, /** @type {string} */ name) =>
      app.graph.nodes.find((/** @type {any} */ node) => node.type === type).widgets.find((/** @type {any} */ each) => each.name === name);
    find("LongtakePromptTimeline", "text").value = "0: a red ball bouncing over green hills by day";
    find("LongtakeSampler", "length").value = seconds;
    find("LongtakeSampler", "seed").value = Math.floor(Math.random() * 1e9);
    find("LongtakeSchedule", "stagger").value = 2 + Math.random(); // else the core takes its output from its cache
  }, seconds);
  await run(page);
}

/** Return which nodes cover another one, which reach out of their group, and which do not show their whole status text,
 * after a workflow's first run with the badges of a new installation.
 * @param {Page} page @param {{canvas: object, vue: boolean, seconds: number}} given */
export async function disorder(page, given) {
  await page.setViewportSize(WHOLE_GRAPH); // the host draws no text outside of the window
  await page.evaluate(() => app.extensionManager.setting.set("Comfy.NodeBadge.NodeSourceBadgeMode", "Hide built-in"));
  await firstRun(page, given);
  return [...await covered(page), ...await cutTexts(page)];
}

/** Return which nodes do not show their whole status text, or a loader's line. @param {Page} page @returns {Promise<string[]>} */
function cutTexts(page) {
  return page.evaluate((names) => {
    const spans = [...document.querySelectorAll("span, p, .longtake-fit")].filter((each) => each.getClientRects().length);
    const cutOf = (/** @type {string} */ text) => {
      let box = spans.find((each) => each.textContent?.startsWith(text));
      if (!box) return ["is not seen"];
      const cuts = [];
      for (; box && !box.matches(".dom-widget, [data-node-id]"); box = box.parentElement) {
        if (getComputedStyle(box).overflowY !== "visible") cuts.push(box.scrollHeight - box.clientHeight);
      }
      return cuts.filter((pixels) => pixels > 0).map((pixels) => `is cut by ${pixels} pixels`);
    };
    return app.graph.nodes.flatMap((/** @type {any} */ node) => {
      const widgets = node.widgets?.filter((/** @type {any} */ each) => names.includes(each.name)) ?? [];
      const texts = widgets.map((/** @type {any} */ each) => (each.element?.textContent ?? each.value).split("\n")[0]);
      return texts.filter(Boolean).flatMap(cutOf).map((/** @type {string} */ fault) => `${node.title}: its text ${fault}`);
    });
  }, ["$$node-text-preview", "fit"]);
}

/** Return which nodes cover another one, and which reach out of their group. @param {Page} page @returns {Promise<string[]>} */
function covered(page) {
  return page.evaluate(() => {
    const boxes = app.graph.nodes.map((/** @type {any} */ node) => {
      const [x, y, width, height] = node.boundingRect;
      const drawn = /** @type {HTMLElement|null} */ (document.querySelector(`[data-node-id="${node.id}"]`));
      const tall = LiteGraph.vueNodesMode ? drawn?.offsetHeight ?? 0 : height;
      return { title: node.title, left: x, top: y, right: x + width, bottom: y + tall };
    });
    const found = [];
    for (const [i, one] of boxes.entries()) {
      for (const other of boxes.slice(i + 1)) {
        if (Math.min(one.right, other.right) > Math.max(one.left, other.left)
          && Math.min(one.bottom, other.bottom) > Math.max(one.top, other.top) + 1) found.push(`${one.title}, ${other.title}`);
      }
      for (const { title, _bounding: [x, y, width, height] } of app.graph.groups) {
        const isIn = one.left >= x && one.right <= x + width && one.top >= y && one.top < y + height;
        if (isIn && one.bottom > y + height) found.push(`${one.title}, out of ${title}`);
      }
    }
    return found;
  });
}

/** Return the heights of a new Schedule node with the demo's model before and after its first run, and whether it shows
 * its picture, then and after the host has made the node anew. @param {Page} page @param {{vue: boolean}} given */
export async function newSchedule(page, { vue }) {
  await show(page, { canvas: { version: 0.4, nodes: [], links: [], last_node_id: 0, last_link_id: 0 }, vue });
  await page.evaluate(() => {
    const add = (/** @type {string} */ type, /** @type {number} */ x) => {
      const node = LiteGraph.createNode(type);
      app.graph.add(node);
      node.pos = [x, 0];
      return node;
    };
    const [model, schedule] = [add("LongtakeLoadDemoModel", 0), add("LongtakeSchedule", 320)];
    const [sampler, info] = [add("LongtakeSampler", 700), add("LongtakeRolloutInfo", 1100)];
    model.connect(0, schedule, schedule.findInputSlot("model"));
    model.connect(0, sampler, sampler.findInputSlot("model"));
    schedule.connect(0, sampler, sampler.findInputSlot("schedule"));
    const timeline = add("LongtakePromptTimeline", 700);
    timeline.pos = [700, 900];
    timeline.widgets.find((/** @type {any} */ each) => each.name === "text").value = "0: a red ball";
    model.connect(1, timeline, timeline.findInputSlot("clip"));
    timeline.connect(0, sampler, sampler.findInputSlot("prompts"));
    sampler.connect(0, info, 0);
    schedule.widgets.find((/** @type {any} */ each) => each.name === "stagger").value = 2 + Math.random();
  });
  await page.waitForTimeout(500);
  const before = await heights(page);
  await run(page);
  const after = await heights(page);
  const shown = await showsPicture(page);
  await page.evaluate(() => app.loadGraphData(app.graph.serialize())); // as an undo does
  await page.waitForTimeout(800);
  return [before.LongtakeSchedule, after.LongtakeSchedule, shown, await showsPicture(page)];
}

/** Whether the Schedule's picture is seen, within its node. @param {Page} page @returns {Promise<boolean>} */
function showsPicture(page) {
  return page.evaluate(() => {
    const node = app.graph.nodes.find((/** @type {any} */ each) => each.type === "LongtakeSchedule");
    const image = node.widgets.find((/** @type {any} */ each) => each.name === "picture").element.querySelector("img");
    const { top, bottom, width, height } = image.getBoundingClientRect();
    const start = app.canvas.canvas.getBoundingClientRect().top + node.pos[1] + app.canvas.ds.offset[1];
    return image.naturalWidth > 0 && width * height > 0 && top >= start && bottom <= start + node.size[1] + 1;
  });
}

/** Return the words of the status texts that are broken, and by how many pixels the sampler's is longer than its box,
 * after a workflow's first run. @param {Page} page @param {{canvas: object, vue: boolean, seconds: number}} given */
export async function statusTexts(page, given) {
  await firstRun(page, given);
  return await page.evaluate(() => {
    const texts = [...document.querySelectorAll("span, p")].filter((each) =>
      !each.closest(".longtake-player") && /^(Warning|Settings|[\d.]+ s,)/.test(each.textContent ?? ""));
    let box = texts.find((each) => /^[\d.]+ s,/.test(each.textContent ?? ""));
    if (!box) throw new Error("No sampler shows a status text.");
    while (box.parentElement && getComputedStyle(box).overflowY !== "auto") box = box.parentElement;
    const cut = box.scrollHeight - box.clientHeight;
    /** @type {string[]} */
    const broken = [];
    for (const text of texts.flatMap((each) => [...each.childNodes]).filter((each) => each.nodeType === Node.TEXT_NODE)) {
      for (const word of (text.textContent ?? "").matchAll(/\S+/g)) {
        const range = document.createRange();
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        if (range.getClientRects().length > 1) broken.push(word[0]);
      }
    }
    return { broken, cut };
  });
}

/** Return the lines under new loaders: of the demo, and of each file when it is chosen. The last file
 * is that of a workflow that is opened, saved from this canvas. @param {Page} page
 * @param {{vue: boolean, files: string[]}} given */
export async function fitLines(page, { vue, files }) {
  await show(page, { canvas: { version: 0.4, nodes: [], links: [], last_node_id: 0, last_link_id: 0 }, vue });
  await page.evaluate(() => {
    ["LongtakeLoadDemoModel", "LongtakeLoadModel"].forEach((type, i) => {
      const node = LiteGraph.createNode(type);
      app.graph.add(node);
      node.pos = [360 * i, 0];
    });
  });
  const lines = [await fitLine(page, "LongtakeLoadDemoModel")];
  await page.waitForTimeout(400); // the node has grown
  const { needed, has, below } = await roomOf(page, "LongtakeLoadDemoModel");
  if (needed > has + 1 || below > 1) throw new Error(`The demo's fit line is cut: ${needed} of ${has}, ${below} below.`);
  let shown = await fitLine(page, "LongtakeLoadModel"); // of the first file in the host's folder
  for (const file of files) {
    const isShown = await page.evaluate((file) => {
      const node = app.graph.nodes.find((/** @type {any} */ each) => each.type === "LongtakeLoadModel");
      const widget = node.widgets.find((/** @type {any} */ each) => each.name === "model_name");
      const before = widget.value;
      widget.value = file;
      widget.callback?.(file);
      return before === file;
    }, file);
    shown = await fitLine(page, "LongtakeLoadModel", isShown ? undefined : shown);
    lines.push(shown);
  }
  const canvas = await page.evaluate(() => app.graph.serialize());
  await show(page, { canvas, vue });
  lines.push(await fitLine(page, "LongtakeLoadModel"));
  return lines;
}

/** The pixels that a line needs and has, and by how many it reaches below its node on the classic canvas.
 * @param {Page} page @param {string} type @returns {Promise<{needed: number, has: number, below: number}>} */
function roomOf(page, type) {
  return page.evaluate((type) => {
    const node = app.graph.nodes.find((/** @type {any} */ each) => each.type === type);
    const { element } = node.widgets.find((/** @type {any} */ each) => each.name === "fit");
    const end = element.getBoundingClientRect().bottom - app.canvas.canvas.getBoundingClientRect().top;
    const bottom = node.pos[1] + node.size[1] + app.canvas.ds.offset[1];
    return { needed: element.scrollHeight, has: element.clientHeight, below: LiteGraph.vueNodesMode ? 0 : end - bottom };
  }, type);
}

/** Wait for the line of a node that is not the one `before`, and return it. @param {Page} page @param {string} type @param {string} [before] */
async function fitLine(page, type, before = "") {
  const read = (/** @type {string[]} */ [type, before]) => {
    const node = app.graph.nodes.find((/** @type {any} */ each) => each.type === type);
    const { element } = node.widgets.find((/** @type {any} */ each) => each.name === "fit");
    const text = element.isConnected && element.offsetHeight ? element.textContent : "";
    return text === before ? "" : text;
  };
  return await (await page.waitForFunction(read, [type, before])).jsonValue();
}
