// @ts-check
/** The player inside ComfyUI. The only module that uses the host's `app` and `api`. */
import { chain } from "./chain.mjs";
import { Failures } from "./failures.mjs";
import { addFitLine } from "./fit_line.mjs";
import { decoderOf, forkObstacle, forkWidgets, jointObstacle } from "./fork_terms.mjs";
import { keepDrive } from "./lines/camera_lines.mjs";
import { isKept, keepLine } from "./lines/kept_lines.mjs";
import { nodeAt } from "./graph.mjs";
import { insertBefore } from "./insert_node.mjs";
import { renewSeed } from "./new_seed.mjs";
import { PromptOrigins } from "./prompt_origins.mjs";
import { roomBelow } from "./room_below.mjs";
import { SavedVideos } from "./saved_videos.mjs";
import { CHUNK_EVENT, Library, TAKE_EVENT, nodesOf } from "../takes/library.mjs";
import { keepAsking } from "../takes/heartbeat.mjs";
import { menuItems } from "./menu.mjs";
import { isOurs, layOut } from "./node_layout.mjs";
import { passEventsThrough } from "./event_passthrough.mjs";
import { Player } from "../view/player.mjs";
import { loadStyle } from "../view/style.mjs";
import { showNode } from "./show_node.mjs";
import { clearStatus } from "./status_text.mjs";
import { shareWithTabs } from "../takes/tab_sharing.mjs";
import { loadWords, translate } from "../words.mjs";

const NODE = "LongtakePreview";
const FORK = "LongtakeEditRollout";
const WIDGET_TYPE = "LONGTAKE_PLAYER"; // the host's widget registry must not contain it
const UNUSED_EVENTS = ["longtake.chunk", "longtake.file"]; // the host warns about events without a listener
const MIN_SIZE = [400, 460];

/** @typedef {import("../takes/library.mjs").Session} Session */

/** The state of the extension for the life of the page. */
export class Host {
  /** Players by node. @type {Map<any, Player>} */
  #players = new Map();
  #bindQueued = false;
  #attached = false; // whether the server has sent its list of takes
  #savedVideos = new SavedVideos(localStorage);
  #failures = new Failures();
  /** The workflow of the running prompt; null if unknown. @type {string|null} */
  #running = null;

  /** @param {any} app @param {any} api */
  constructor(app, api) {
    this.app = app;
    this.api = api;
    this.server = {
      request: (/** @type {string} */ path, /** @type {RequestInit|undefined} */ init) =>
        api.fetchApi(path, init),
      fileUrl: (/** @type {import("../types.mjs").SavedFile} */ file) =>
        api.apiURL(`/view?${new URLSearchParams({ ...file })}`),
      url: (/** @type {string} */ path) => new URL(api.apiURL(path), location.href).href,
    };
    this.origins = new PromptOrigins((path) => api.fetchApi(path));
    this.library = new Library(this.server);
    this.library.listen(() => this.bind());
  }

  /** Load the language of ComfyUI's setting. */
  loadLanguage() {
    return loadWords(String(this.app.extensionManager?.setting?.get("Comfy.Locale") ?? "en"));
  }

  /** Listen to the server. Call this once, before any run. */
  connect() {
    loadStyle();
    const receive = shareWithTabs(this.library);
    for (const type of [TAKE_EVENT, CHUNK_EVENT]) {
      this.api.addEventListener(type, (/** @type {CustomEvent} */ event) => receive(type, event.detail));
    }
    this.api.addEventListener("executing", (/** @type {CustomEvent} */ event) => this.#begin(event.detail));
    this.api.addEventListener("executed", (/** @type {CustomEvent} */ event) => this.#executed(event.detail));
    this.api.addEventListener("execution_start", (/** @type {CustomEvent} */ event) => this.#start(event.detail));
    this.api.addEventListener("execution_error", (/** @type {CustomEvent} */ event) => this.#fail(event.detail));
    for (const type of UNUSED_EVENTS) this.api.addEventListener(type, () => {});
    this.api.addEventListener("reconnecting", () => this.library.setConnected(false));
    this.api.addEventListener("reconnected", () => this.library.attach(this.api.clientId));
    this.#attachOnce();
    keepAsking(this.library);
  }

  /** Attach to the server's takes. The client id arrives with the first status message. */
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

  /** Lay out a new node of this pack; add a line to a loader and a player to a preview. @param {any} node */
  prepare(node) {
    layOut(node);
    addFitLine(node, (path) => this.api.fetchApi(path));
    if (node.comfyClass !== NODE) return;
    const player = new Player(this.server, {
      emptyHint: () => hint(node),
      lostHint: () => translate("No connection to ComfyUI. When it runs again, press Run to resume."),
      keepLine: (session, line) => this.#keepLine(session, line),
      isKept: (session, line) => isKept(this.#root, this.#nodeOf(session), session, line),
      keepDrive: (session, lines) => this.#keepDrive(session, lines),
      keep: (session, file) => this.#keep(session, file),
      fork: (session, seconds) => this.#fork(session, seconds),
      restart: (session, afresh) => this.#restart(session, afresh),
      makeRoom: (pixels) => node.setSize([node.size[0], node.size[1] + Math.min(pixels, roomBelow(node))]),
    });
    this.#players.set(node, player);
    passEventsThrough(player.element, () => this.app.canvas?.canvas);
    const widget = node.addDOMWidget("player", WIDGET_TYPE, player.element, {
      serialize: false, // not in the prompt
      hideOnZoom: false,
      hideInPanel: true, // an element can only be in one place
      getValue: () => "",
      setValue: () => {},
    });
    widget.serialize = false; // not in the workflow
    node.setSize([Math.max(node.size[0], MIN_SIZE[0]), Math.max(node.size[1], MIN_SIZE[1])]);
    chain(node, "onRemoved", () => this.#remove(node));
    chain(node, "onConnectionsChange", () => player.refresh());
    this.bind(); // the node gets its id after this
  }

  /** Return the menu items of a preview node. @param {any} node */
  menu(node) {
    const player = this.#players.get(node);
    return player ? menuItems(player, [...this.#players.values()]) : [];
  }

  /** @param {any} node */
  #remove(node) {
    this.#players.get(node)?.dispose();
    this.#players.delete(node);
  }

  /** A prompt begins. @param {{prompt_id: string}} message */
  async #start({ prompt_id: prompt }) {
    this.#running = null; // until the host has answered
    this.#running = await this.#workflowOf(prompt);
    this.#failures.clear(this.#running ?? "");
    this.bind();
  }

  /** A node begins: what it said in an earlier run is no longer true. @param {string|null} id execution id */
  #begin(id) {
    const node = nodeAt(this.#root, id);
    const isElsewhere = this.#running !== null && this.#running !== this.#workflow;
    if (isOurs(node) && !isElsewhere) clearStatus(node);
  }

  /** Show the takes of a node that has run, or that the host took from its cache.
   * @param {{node: string, display_node?: string, prompt_id?: string,
   *   output?: {longtake?: {take: string}[]}}} message */
  async #executed({ node, display_node: shown = node, prompt_id: prompt, output }) {
    const takes = output?.longtake ?? [];
    const workflow = takes.length ? await this.#workflowOf(prompt) : null;
    if (workflow === null) return;
    for (const { take } of takes) this.library.show(take, workflow, shown, prompt);
  }

  /** @param {import("./failures.mjs").Failure} failure */
  async #fail(failure) {
    const workflow = await this.#workflowOf(failure.prompt_id);
    if (workflow !== null) this.#failures.add(workflow, failure);
    this.bind();
  }

  /** Return a prompt's workflow, or the one on the canvas if the host does not tell. @param {string} [prompt] */
  async #workflowOf(prompt) {
    const shown = this.#workflow;
    return (prompt === undefined ? null : await this.origins.of(prompt)) ?? shown;
  }

  get #root() {
    if (this.app.isGraphReady === false) return null; // the host logs an error for earlier access
    return this.app.rootGraph ?? this.app.graph;
  }

  /** @returns {string|null} */
  get #workflow() {
    return this.#root?.id ?? null;
  }

  /** Give every player the newest takes of its node, after the current changes to the graph. */
  bind() {
    if (this.#bindQueued) return;
    this.#bindQueued = true;
    queueMicrotask(() => {
      this.#bindQueued = false;
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
      ? [...this.#savedVideos.of(this.#workflow)].map(([id, file]) => [nodeAt(this.#root, id), file]) : []);
    const failures = this.#failures.of(this.#root, this.#workflow, (node) => node.comfyClass === NODE,
      (node, prompt) => this.library.hasTake(node, prompt));
    for (const [node, player] of this.#players) {
      player.showFailure(failures.get(node) ?? null);
      player.offer(found.get(node) ?? [], saved.get(node) ?? null);
    }
  }

  /** @param {Session} session @param {import("../types.mjs").SavedFile} file */
  #keep(session, file) {
    const workflow = this.#workflow;
    if (workflow === null) return;
    for (const id of nodesOf(session, workflow)) this.#savedVideos.keep(workflow, id, file);
  }

  /** Write an edit into the Prompt Timeline upstream of the take's node. @param {Session} session @param {string} line */
  #keepLine(session, line) {
    const error = keepLine(this.#root, this.#nodeOf(session), session, line);
    session.workflowChanged ||= error === null;
    this.app.canvas?.setDirty?.(true, true);
    return error;
  }

  /** Write a drive into the Camera Path upstream of the take's node. @param {Session} session @param {string[]} lines */
  #keepDrive(session, lines) {
    const error = keepDrive(this.#root, this.#nodeOf(session), lines);
    session.driveKept = error === null;
    session.workflowChanged ||= error === null;
    this.app.canvas?.setDirty?.(true, true);
    return error;
  }

  /**
   * Insert a Fork, Rewind or Continue node, set to `fork`, before the take's decoder.
   * @param {Session} session @param {number} seconds @returns {string|null} an error message, or null
   */
  #fork(session, seconds) {
    const id = this.#nodeOf(session);
    const obstacle = jointObstacle(this.#root, id)
      ?? forkObstacle(session, seconds, (line) => isKept(this.#root, id, session, line));
    if (obstacle !== null) return obstacle;
    const decoder = decoderOf(this.#root, id);
    const { LiteGraph } = /** @type {any} */ (globalThis);
    const fork = decoder && insertBefore(LiteGraph, decoder, "rollout", FORK);
    if (!fork) return translate("No rollout reaches this preview through VAE Decode (Stream). Add Fork, Rewind or Continue by hand.");
    for (const [name, value] of Object.entries(forkWidgets(session.take.info, seconds))) {
      const widget = fork.widgets?.find((/** @type {any} */ each) => each.name === name);
      widget.value = value;
      widget.callback?.(value);
    }
    session.workflowChanged = true;
    showNode(this.app.canvas, fork); // the user types a prompt there
    return null;
  }

  /**
   * Run the workflow: again, or `afresh` with a new seed instead of the run in progress.
   * @param {Session} session @param {boolean} afresh @returns {string|null} an error message, or null
   */
  #restart(session, afresh) {
    const id = this.#nodeOf(session);
    if (afresh && !renewSeed(this.#root, id)) {
      return translate("No Diffusion-Forcing Sampler with a seed of its own feeds this preview. Change the seed by hand, then press Run.");
    }
    const { growing, info } = session.take;
    if (afresh && growing) this.api.interrupt(info.prompt_id);
    this.app.queuePrompt(0, 1);
    return null;
  }

  /** Return the execution id of the node that shows a take. @param {Session} session */
  #nodeOf(session) {
    return nodesOf(session, this.#workflow).at(-1) ?? "";
  }
}

/** Return the hint for an empty player. @param {any} node */
function hint(node) {
  const wired = node.inputs?.some((/** @type {any} */ input) => input.link != null);
  if (!wired) return translate("Connect frames from VAE Decode (Stream), then press Run.");
  return translate("Press Run. The video appears here while it is generated.");
}
