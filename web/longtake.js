// @ts-check
/** Longtake in ComfyUI's page: registers the extension. Everything else is in player/. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const MODULES = [
  "bitmaps", "bytes", "clock", "deck", "dom", "edits", "fetcher", "fork", "format", "graph",
  "host", "hover", "insert", "keepsakes", "keys", "library", "live", "menu", "overlay", "passage", "picker",
  "player", "reel", "screen", "scrub", "strip", "style", "tabs", "take", "timeline",
  "transport", "wire", "words",
];

/** ComfyUI forbids browsers to keep .js files but says nothing about .mjs: ask for each once, so that
 * an updated pack never runs with half of the old modules. */
async function freshHost() {
  const urls = MODULES.map((name) => new URL(`./player/${name}.mjs`, import.meta.url));
  await Promise.all(urls.map((url) => fetch(url, { cache: "no-cache" })));
  return import("./player/host.mjs");
}

const { Host } = await freshHost();
const host = new Host(app, api);

app.registerExtension({
  name: "longtake.preview",
  init: () => host.learnWords(), // before any node is made
  setup: () => host.connect(),
  nodeCreated: (/** @type {any} */ node) => host.furnish(node),
  afterConfigureGraph: () => host.bind(),
  getNodeMenuItems: (/** @type {any} */ node) => host.menu(node),
});
