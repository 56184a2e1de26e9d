// @ts-check
/** The player inside ComfyUI. The only module that knows the host's `app` and `api`. */
import { nodeAt, upstream, widgetOf } from "./graph.mjs";
import { insertBefore } from "./insert_node.mjs";
import { Keepsakes } from "./saved_videos.mjs";
import { CHUNK_EVENT, Library, TAKE_EVENT, nodesOf } from "../takes/library.mjs";
import { menuItems } from "./menu.mjs";
import { letThrough } from "./event_passthrough.mjs";
import { Player } from "../view/player.mjs";
import { loadStyle } from "../view/style.mjs";
import { sharedWithTabs } from "../takes/tab_sharing.mjs";
import { withLine } from "./prompt_lines.mjs";
import { learn, say } from "../words.mjs";

const NODE = "LongtakePreview";
const TIMELINE = "LongtakePromptTimeline";
const DECODE = "LongtakeVAEDecode";
const FORK = "LongtakeEditRollout";
const WIDGET_TYPE = "LONGTAKE_PLAYER"; // not in the host's registry of widgets, so it stays ours
const FOR_OTHERS = ["longtake.chunk", "longtake.file"]; // heard, or the host warns of each
const FIRST_SIZE = [400, 460];

/** @typedef {import("../takes/library.mjs").Session} Session */

/** Everything that the extension keeps for the life of the page. */
export class Host {
  /** Players by the node they are in. @type {Map<any, Player>} */
  #players = new Map();
  #bindAsked = false;
  #attached = false; // whether the server has said what takes it knows
  #keepsakes = new Keepsakes(localStorage);

  /** @param {any} app @param {any} api */
  constructor(app, api) {
    this.app = app;
    this.api = api;
    this.server = {
      request: (/** @type {string} */ path, /** @type {RequestInit|undefined} */ init) =>
        api.fetchApi(path, init),
      fileUrl: (/** @type {import("../types.mjs").SavedFile} */ file) =>
        api.apiURL(`/view?${new URLSearchParams({ ...file })}`),
    };
    this.library = new Library(this.server);
    this.library.listen(() => this.bind());
  }

  /** Speak the language that ComfyUI is set to. */
  learnWords() {
    return learn(String(this.app.extensionManager?.setting?.get("Comfy.Locale") ?? "en"));
  }

  /** Hear the server; to be called once, before any run. */
  connect() {
    loadStyle();
    const hear = sharedWithTabs(this.library);
    for (const type of [TAKE_EVENT, CHUNK_EVENT]) {
      this.api.addEventListener(type, (/** @type {CustomEvent} */ event) => hear(type, event.detail));
    }
    this.api.addEventListener("executed", (/** @type {CustomEvent} */ event) => this.#executed(event.detail));
    for (const type of FOR_OTHERS) this.api.addEventListener(type, () => {});
    this.api.addEventListener("reconnected", () => this.library.catchUp());
    this.#attachOnce();
  }

  /** The client id comes with the first status message. */
  #attachOnce() {
    const attach = () => {
      if (!this.api.clientId) return;
      this.api.removeEventListener("status", attach);
      this.library.attach(this.api.clientId).finally(() => {
        this.#attached = true;
        this.bind();
      });
    };
    this.api.addEventListener("status", attach);
    attach();
  }

  /** Put a player into a new preview node. @param {any} node */
  furnish(node) {
    if (node.comfyClass !== NODE) return;
    const player = new Player(this.server, {
      emptyHint: () => hint(node),
      keepLine: (session, line) => this.#keepLine(session, line),
      keep: (session, file) => this.#keep(session, file),
      fork: (session, seconds) => this.#fork(session, seconds),
    });
    this.#players.set(node, player);
    letThrough(player.element, () => this.app.canvas?.canvas);
    const widget = node.addDOMWidget("player", WIDGET_TYPE, player.element, {
      serialize: false, // not in the prompt
      hideOnZoom: false,
      hideInPanel: true, // an element can be in one place only
      getValue: () => "",
      setValue: () => {},
    });
    widget.serialize = false; // not in the workflow
    node.setSize([Math.max(node.size[0], FIRST_SIZE[0]), Math.max(node.size[1], FIRST_SIZE[1])]);
    this.#chain(node, "onRemoved", () => this.#remove(node));
    this.#chain(node, "onConnectionsChange", () => player.refresh());
    this.bind(); // the node gets its id after this
  }

  /** What a preview node's menu offers. @param {any} node */
  menu(node) {
    const player = this.#players.get(node);
    return player ? menuItems(player, [...this.#players.values()]) : [];
  }

  /** @param {any} node @param {string} name @param {(...given: any[]) => void} ours */
  #chain(node, name, ours) {
    const before = node[name];
    node[name] = function (/** @type {any[]} */ ...given) {
      const result = before?.apply(this, given);
      ours(...given);
      return result;
    };
  }

  /** @param {any} node */
  #remove(node) {
    this.#players.get(node)?.dispose();
    this.#players.delete(node);
  }

  /** A node is done, or did not need to run again.
   * @param {{node: string, display_node?: string, prompt_id?: string,
   *   output?: {longtake?: {take: string}[]}}} said */
  #executed({ node, display_node: shown = node, prompt_id: prompt, output }) {
    const workflow = this.#workflow;
    if (workflow === null || nodeAt(this.#root, shown)?.comfyClass !== NODE) return;
    for (const { take } of output?.longtake ?? []) this.library.show(take, workflow, shown, prompt);
  }

  get #root() {
    if (this.app.isGraphReady === false) return null; // the host complains of earlier questions
    return this.app.rootGraph ?? this.app.graph;
  }

  /** @returns {string|null} */
  get #workflow() {
    return this.#root?.id ?? null;
  }

  /** Give every player the newest take of its node, once the graph stands. */
  bind() {
    if (this.#bindAsked) return;
    this.#bindAsked = true;
    queueMicrotask(() => {
      this.#bindAsked = false;
      this.#bindNow();
    });
  }

  #bindNow() {
    /** @type {Map<any, Session[]>} */
    const found = new Map();
    for (const [id, session] of this.library.newest(this.#workflow)) {
      const node = nodeAt(this.#root, id);
      const known = found.get(node) ?? [];
      if (!known.includes(session)) found.set(node, [...known, session]);
    }
    const saved = new Map(this.#attached
      ? [...this.#keepsakes.of(this.#workflow)].map(([id, file]) => [nodeAt(this.#root, id), file]) : []);
    for (const [node, player] of this.#players) {
      player.offer(found.get(node) ?? [], saved.get(node) ?? null);
    }
  }

  /** @param {Session} session @param {import("../types.mjs").SavedFile} file */
  #keep(session, file) {
    const workflow = this.#workflow;
    if (workflow === null) return;
    for (const id of nodesOf(session, workflow)) this.#keepsakes.keep(workflow, id, file);
  }

  /**
   * Write an edit into the Prompt Timeline that the take was made from.
   * @param {Session} session @param {string} line @returns {string|null} why not, or null
   */
  #keepLine(session, line) {
    const id = nodesOf(session, this.#workflow).at(-1) ?? "";
    const found = upstream(this.#root, id, (node) => node.comfyClass === TIMELINE);
    if (!found) return say("No Prompt Timeline is wired to this preview; add: {line}", { line });
    const widget = widgetOf(this.#root, found.path, found.node, "text");
    if (!widget) return say("Another node feeds the Prompt Timeline's text; add there: {line}", { line });
    const { graph } = found.node;
    graph?.beforeChange?.();
    widget.value = withLine(String(widget.value ?? ""), line);
    widget.callback?.(widget.value);
    graph?.afterChange?.();
    this.app.canvas?.setDirty?.(true, true);
    return null;
  }

  /**
   * Put a Fork, Rewind or Continue node, set to `fork`, before the decoder that the take was decoded by.
   * @param {Session} session @param {number} seconds @returns {string|null} why not, or null
   */
  #fork(session, seconds) {
    const unkept = session.take.info.edits.find(({ status, line, start_s: at }) =>
      status === "applied" && line !== null && (at ?? 0) < seconds && !this.#isKept(session, line));
    const line = unkept?.line;
    if (line) return say("Press Keep edit for “{line}” first, so that the fork begins with what you see.", { line });
    const id = nodesOf(session, this.#workflow).at(-1) ?? "";
    const found = upstream(this.#root, id, (node) => node.comfyClass === DECODE);
    const { LiteGraph } = /** @type {any} */ (globalThis);
    const made = found && insertBefore(LiteGraph, found.node, "rollout", FORK);
    if (!made) return say("No rollout is wired to this preview through VAE Decode (Stream); add Fork, Rewind or Continue by hand.");
    for (const [name, value] of Object.entries({ action: "fork", at: seconds })) {
      const widget = made.widgets?.find((/** @type {any} */ each) => each.name === name);
      widget.value = value;
      widget.callback?.(value);
    }
    this.app.canvas?.selectNode?.(made);
    this.app.canvas?.centerOnNode?.(made); // a prompt is to be typed there
    this.app.canvas?.setDirty?.(true, true);
    return null;
  }

  /** Whether an edit's line is in the Prompt Timeline. @param {Session} session @param {string} line */
  #isKept(session, line) {
    const id = nodesOf(session, this.#workflow).at(-1) ?? "";
    const found = upstream(this.#root, id, (node) => node.comfyClass === TIMELINE);
    const widget = found && widgetOf(this.#root, found.path, found.node, "text");
    return String(widget?.value ?? "").split("\n").includes(line);
  }
}

/** What to do about an empty player. @param {any} node */
function hint(node) {
  const wired = node.inputs?.some((/** @type {any} */ input) => input.link != null);
  if (!wired) return say("Connect frames from VAE Decode (Stream), then press Run.");
  return say("Press Run: the video appears here while it is made.");
}
