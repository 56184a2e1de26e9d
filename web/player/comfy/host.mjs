// @ts-check
/** The player inside ComfyUI. The only module that uses the host's `app` and `api`. */
import { element } from "../view/dom.mjs";
import { chain } from "./chain.mjs";
import { emptyHint } from "./empty_hint.mjs";
import { Failures } from "./failures.mjs";
import { addFitLine } from "./fit_line.mjs";
import { isWithin, nodeAt } from "./graph.mjs";
import { LastShown } from "./lasting/last_shown.mjs";
import { identify, identityOf } from "./lasting/node_identity.mjs";
import { PromptOrigins } from "./prompt_origins.mjs";
import { ResultPictures } from "./result_picture.mjs";
import { roomBelow } from "./room_below.mjs";
import { ShotActions } from "./shot_actions.mjs";
import { CHUNK_EVENT, Library, TAKE_EVENT } from "../takes/library.mjs";
import { keepAsking } from "../takes/heartbeat.mjs";
import { menuItems } from "./menu.mjs";
import { isOurs, layOut } from "./node_layout.mjs";
import { passEventsThrough } from "./event_passthrough.mjs";
import { Player } from "../view/player.mjs";
import { loadStyle } from "../view/style.mjs";
import { StatusTexts } from "./status_text.mjs";
import { shareWithTabs } from "../takes/tab_sharing.mjs";
import { VacantPlaces } from "./lasting/vacant_places.mjs";
import { identifyWorkflow } from "./lasting/workflow_identity.mjs";
import { loadWords, translate } from "../words.mjs";

const NODE = "LongtakePreview";
const WIDGET_TYPE = "LONGTAKE_PLAYER"; // the host's widget registry must not contain it
const UNUSED_EVENTS = ["longtake.chunk", "longtake.file"]; // the host warns about events without a listener
const END_EVENTS = ["execution_success", "execution_error", "execution_interrupted"];
const MIN_SIZE = [400, 460];
const TOLD_MS = 10_000;

/** @typedef {import("../takes/library.mjs").Session} Session */

/** The state of the extension for the life of the page. */
export class Host {
  /** Players by node. @type {Map<any, Player>} */
  #players = new Map();
  #bindQueued = false;
  #attached = false; // whether the server has sent its list of takes
  #lastShown = new LastShown();
  #failures = new Failures();
  #statusTexts = new StatusTexts();
  #pictures = new ResultPictures();
  #places = new VacantPlaces();
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

  /** Listen to the server. Call this once, before the host opens its socket. */
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
    this.api.addEventListener("progress_text", (/** @type {CustomEvent} */ event) => this.#noteStatus(event.detail));
    for (const type of END_EVENTS) this.api.addEventListener(type, () => setTimeout(() => this.#restoreStatuses()));
    for (const type of UNUSED_EVENTS) this.api.addEventListener(type, () => {});
    this.api.addEventListener("graphCleared", () => identifyWorkflow(this.#root));
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

  /** Lay out a new node of this pack; add a line to a loader, a frame for a picture, and to a preview its player.
   * @param {any} node */
  prepare(node) {
    this.#pictures.addTo(node);
    layOut(node);
    addFitLine(node, (path) => this.api.fetchApi(path));
    if (node.comfyClass !== NODE) return;
    identify(node);
    const frame = element("div", { class: "longtake-frame" });
    passEventsThrough(frame, () => this.app.canvas?.canvas);
    const widget = node.addDOMWidget("player", WIDGET_TYPE, frame, {
      serialize: false, // not in the prompt
      hideOnZoom: false,
      hideInPanel: true, // an element can only be in one place
      getValue: () => "",
      setValue: () => {},
    });
    widget.serialize = false; // not in the workflow
    node.setSize([Math.max(node.size[0], MIN_SIZE[0]), Math.max(node.size[1], MIN_SIZE[1])]);
    chain(node, "onAdded", () => this.#open(node, frame));
    chain(node, "onConfigure", () => this.#distinguish(node));
    chain(node, "onRemoved", () => this.#remove(node, frame));
    chain(node, "onConnectionsChange", () => this.#players.get(node)?.refresh());
  }

  /** Open the player of a node that came into a graph: the host makes copies for itself, which never do.
   * @param {any} node @param {HTMLElement} frame */
  #open(node, frame) {
    const actions = new ShotActions(this.app, this.api, node);
    const player = new Player(this.server, {
      emptyHint: () => emptyHint(node),
      lostHint: () => translate("No connection to ComfyUI. When it runs again, press Run to resume."),
      keepLine: (session, line) => actions.keepLine(session, line),
      isKept: (session, line) => actions.isKept(session, line),
      keepDrive: (session, lines) => actions.keepDrive(session, lines),
      prepared: actions.prepared,
      keep: (session, file) => this.#lastShown.note(identityOf(node), { file }),
      fork: (session, seconds) => actions.fork(session, seconds),
      restart: (session, afresh) => actions.restart(session, afresh),
      makeRoom: (pixels) => node.setSize([node.size[0], node.size[1] + Math.min(pixels, roomBelow(node))]),
    });
    this.#players.set(node, player);
    frame.replaceChildren(player.element);
    this.bind(); // the node gets its identity after this
  }

  /** Give a copy beside its original an identity of its own; it begins with what the original shows.
   * @param {any} node */
  #distinguish(node) {
    const identity = identityOf(node);
    const others = [...this.#players.keys()].filter((other) => other !== node && !this.#isGone(other));
    if (!others.some((other) => identityOf(other) === identity)) return;
    identify(node);
    this.#lastShown.note(identityOf(node), this.#lastShown.of(identity));
  }

  /** Return the menu items of a preview node. @param {any} node */
  menu(node) {
    const player = this.#players.get(node);
    return player ? menuItems(player, [...this.#players.values()], (text) => this.#tell(text)) : [];
  }

  /** Show an error message at the edge of the host's page. @param {string} text */
  #tell(text) {
    this.app.extensionManager?.toast?.add({ severity: "error", summary: "Longtake", detail: text, life: TOLD_MS });
  }

  /** @param {any} node @param {HTMLElement} frame of its player */
  #remove(node, frame) {
    this.#places.leave(identityOf(node), frame);
    frame.remove();
    this.#players.get(node)?.dispose();
    this.#players.delete(node);
  }

  /** Whether a node left with its subgraph: when the host loads a graph, at every undo and change of workflow, it tells
   * only the nodes outside of subgraphs that they are removed. @param {any} node */
  #isGone(node) {
    return !!this.#root && !isWithin(this.#root, node);
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
    const node = this.#ownNodeAt(id);
    if (node) this.#statusTexts.empty(node);
  }

  /** @param {{nodeId: string, text: string}} message of the host */
  #noteStatus({ nodeId, text }) {
    const node = this.#ownNodeAt(nodeId);
    if (node) this.#statusTexts.note(node, text);
  }

  /** Let the host show again what its nodes said, after it has removed their texts at the end of a run. */
  #restoreStatuses() {
    for (const detail of this.#statusTexts.removed(this.#root)) {
      this.api.dispatchEvent(new CustomEvent("progress_text", { detail }));
    }
  }

  /** Return the node of this pack that a message of the running prompt is about; null if the canvas shows another
   * workflow. @param {string|null} id execution id */
  #ownNodeAt(id) {
    const isElsewhere = this.#running !== null && this.#running !== this.#workflow;
    const node = isElsewhere ? null : nodeAt(this.#root, id);
    return isOurs(node) ? node : null;
  }

  /** Show the takes or the picture of a node that has run, or that the host took from its cache.
   * @param {{node: string, display_node?: string, prompt_id?: string,
   *   output?: {longtake?: {take: string}[], longtake_picture?: import("../types.mjs").SavedFile[]}}} message */
  async #executed({ node, display_node: shown = node, prompt_id: prompt, output }) {
    const takes = output?.longtake ?? [];
    const pictures = output?.longtake_picture ?? [];
    const workflow = takes.length || pictures.length ? await this.#workflowOf(prompt) : null;
    if (workflow === null) return;
    for (const { take } of takes) this.library.show(take, workflow, shown, prompt);
    for (const file of pictures) this.#pictures.note(workflow, shown, `${this.server.fileUrl(file)}&rand=${Math.random()}`);
    if (pictures.length) this.bind();
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
    for (const [node, { element }] of this.#players) {
      if (this.#isGone(node)) this.#remove(node, /** @type {HTMLElement} */ (element.parentElement));
    }
    /** @type {Map<any, Session[]>} */
    const found = new Map();
    for (const [id, session] of this.library.newest(this.#workflow)) {
      const node = nodeAt(this.#root, id);
      const known = found.get(node) ?? [];
      if (!known.includes(session)) found.set(node, [...known, session]);
    }
    this.#pictures.show(this.#root, this.#workflow);
    const failures = this.#failures.of(this.#root, this.#workflow, (node) => node.comfyClass === NODE,
      (node, prompt) => this.library.hasTake(node, prompt));
    for (const [node, player] of this.#players) {
      this.#places.fill(identityOf(node), /** @type {HTMLElement} */ (player.element.parentElement));
      player.showFailure(failures.get(node) ?? null);
      this.#offer(node, player, found.get(node));
    }
  }

  /** Offer a player the takes of its node, or else those that the node showed before its id changed, or in another
   * tab, or that its original showed; without a take the saved video of the last run.
   * @param {any} node @param {Player} player @param {Session[]} [own] made by the node itself */
  #offer(node, player, own) {
    const identity = identityOf(node);
    if (own) this.#lastShown.note(identity, { takes: own.map(({ take }) => take.token) });
    const { takes, file } = this.#lastShown.of(identity);
    const sessions = own ?? (this.#attached ? this.library.recall(takes) : null);
    player.offer(sessions ?? [], sessions && file);
  }
}
