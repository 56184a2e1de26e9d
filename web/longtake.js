// @ts-check
/** Registers the Longtake extension in ComfyUI's page. Everything else is in player/. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const MODULES = [
  "comfy/chain", "comfy/empty_hint", "comfy/event_passthrough", "comfy/failures",
  "comfy/file_names", "comfy/fit_line", "comfy/fork_terms", "comfy/graph", "comfy/host",
  "comfy/insert_node", "comfy/lasting/last_shown", "comfy/lasting/node_identity",
  "comfy/lasting/prepared_prompts", "comfy/lasting/vacant_places", "comfy/lasting/workflow_identity",
  "comfy/lines/camera_lines", "comfy/lines/kept_lines", "comfy/lines/prompt_lines", "comfy/lines/replaced_lines",
  "comfy/menu", "comfy/new_seed",
  "comfy/node_layout", "comfy/prompt_origins", "comfy/result_picture", "comfy/room_below",
  "comfy/shot_actions", "comfy/show_node", "comfy/status_room", "comfy/status_text", "drive/drive_lines",
  "drive/drive_pad", "drive/driver", "drive/keys", "drive/last_keys", "drive/latency",
  "drive/touch_pad", "input/capture", "input/input_pad", "prompts/prepared", "prompts/prompt_keys",
  "prompts/signs", "status/latencies", "status/status_strip", "storage", "takes/byte_store", "takes/fetcher", "takes/hand_over", "takes/heartbeat",
  "takes/library", "takes/packed_chunk", "takes/page_id", "takes/patience", "takes/tab_sharing",
  "takes/take", "takes/transport", "view/bitmaps", "view/dom", "view/edit_list", "view/fork_button",
  "view/format", "view/hover_preview", "view/live_address", "view/overlay", "view/picture_room",
  "view/playback_bar", "view/player", "view/playhead", "view/reel", "view/restart_buttons",
  "view/run_controls", "view/screen", "view/scrub_bar", "view/shortcuts", "view/style",
  "view/take_picker", "words",
];

/** Revalidate every module, then import what is used of them. ComfyUI disables browser caching of .js
 * files but not of .mjs files, so an updated pack could otherwise run with some old modules. */
async function freshModules() {
  const urls = MODULES.map((name) => new URL(`./player/${name}.mjs`, import.meta.url));
  await Promise.all(urls.map((url) => fetch(url, { cache: "no-cache" })));
  return Promise.all([import("./player/comfy/host.mjs"), import("./player/comfy/file_names.mjs")]);
}

const [{ Host }, { replaceTokens }] = await freshModules();
const host = new Host(app, api);
host.connect(); // at once: the host's socket opens before it calls `setup`

app.registerExtension({
  name: "longtake.preview",
  init: () => host.loadLanguage(), // before any node is created
  nodeCreated: (/** @type {any} */ node) => {
    host.prepare(node);
    replaceTokens(node, app, window.comfyAPI.utils.applyTextReplacements);
  },
  afterConfigureGraph: () => host.bind(),
  getNodeMenuItems: (/** @type {any} */ node) => host.menu(node),
});
