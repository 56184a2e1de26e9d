// @ts-check
/** @import { ChunkInfo, Server, TakeInfo } from "../types.mjs" */
import { ByteStore } from "./byte_store.mjs";
import { Fetcher } from "./fetcher.mjs";
import { Take } from "./take.mjs";
import { Transport } from "./transport.mjs";

const STORE_BYTES = 256 * 2 ** 20; // 10 minutes of 832x480 at 16 fps need two to three times as much
const MAX_TAKES = 32; // as many as the server keeps: stream/preview/takes.py
const QUIET_TIMES = 2; // until a take is asked for that another tab tells of, or that could not be loaded
export const TAKE_EVENT = "longtake.take";
export const CHUNK_EVENT = "longtake.take.chunk";

/** @typedef {{prompt: string, over: string, guidance: string, lora: string}} Draft the fields of an open form; "": nothing of the user's */

/**
 * @typedef {{take: Take, transport: Transport, fetcher: Fetcher, shownIn: Map<string, Set<string>>,
 *   toldBy: "server"|"tab", quiet: number, unloaded?: boolean, driveKept?: boolean, workflowChanged?: boolean, refined?: Session,
 *   view?: import("../view/reel.mjs").View, draft?: Draft, wheel?: import("../drive/driver.mjs").Driver,
 *   capture?: import("../input/capture.mjs").Capture}}
 *   Session  `toldBy`: who sends the messages; `quiet`: how often it was looked at since the last one;
 *   `unloaded`: whether the server's last answer did not come;
 *   `shownIn`: the nodes that show the take, by workflow; the take may come from another workflow;
 *   `workflowChanged`: whether the player wrote an edit, the drive or a fork into the workflow, so that Run goes on
 *   elsewhere than the take says; `refined`: the same frames, larger or finer; `view`: where a player left the
 *   take, `draft`: what the user typed into its open form, and `wheel`: who drove it there; `capture`: the
 *   camera or screen that the run gets. The host replaces the nodes and their players at every undo and at every
 *   change of workflow
 */

/** All takes known to this page. Outlives nodes, workflow tabs and connections. */
export class Library {
  /** @type {Map<string, Session>} newest last */
  #sessions = new Map();
  /** What became of the tokens that `recall` asked for. @type {Map<string, "awaited"|"answered">} */
  #recalls = new Map();
  /** @type {Set<() => void>} */
  #listeners = new Set();
  #connected = true;
  #answering = true;

  /** @param {Server} server @param {number} [storeBytes] */
  constructor(server, storeBytes = STORE_BYTES) {
    this.server = server;
    this.store = new ByteStore(storeBytes);
  }

  /** Return the newest take of each node of a workflow by execution id, newest last.
   * @param {string|null} workflow null: any workflow @returns {Map<string, Session>} */
  newest(workflow) {
    /** @type {Map<string, Session>} */
    const found = new Map();
    for (const session of this.#sessions.values()) {
      for (const node of nodesOf(session, workflow)) {
        found.delete(node);
        found.set(node, session);
      }
    }
    return found;
  }

  /** @param {string} token @returns {Session} */
  open(token) {
    const known = this.#sessions.get(token);
    if (known) return known;
    const session = this.#begin(token, "server");
    this.#sessions.set(token, session);
    const oldest = [...this.#sessions.values()].find(({ take }) => !take.growing);
    if (this.#sessions.size > MAX_TAKES && oldest) this.#sessions.delete(oldest.take.token);
    return session;
  }

  /**
   * Return the takes of some tokens, which this page showed before a reload, or another one of this browser did.
   * Asks the server once for those that this page does not know; null until it has answered.
   * @param {string[]} tokens @returns {Session[]|null}
   */
  recall(tokens) {
    const unknown = tokens.filter((token) => !this.#sessions.has(token));
    for (const token of unknown) if (!this.#recalls.has(token)) void this.#ask(token);
    if (unknown.some((token) => this.#recalls.get(token) === "awaited")) return null;
    return tokens.flatMap((token) => this.#sessions.get(token) ?? []);
  }

  /** Ask the server for a take, which comes before all others if the server still has it. @param {string} token */
  async #ask(token) {
    this.#recalls.set(token, "awaited");
    const session = this.#begin(token, "tab");
    await this.#refresh(session);
    this.#recalls.set(token, "answered");
    const told = session.take.info.node_id !== null;
    if (told && !this.#sessions.has(token)) this.#sessions = new Map([[token, session], ...this.#sessions]);
    this.#notify();
  }

  /** @param {string} token @param {"server"|"tab"} toldBy @returns {Session} */
  #begin(token, toldBy) {
    const take = new Take(token);
    this.#tell(take);
    const transport = new Transport(this.server, take);
    const fetcher = new Fetcher(take, transport, this.store);
    /** @type {Session} */
    const session = { take, transport, fetcher, shownIn: new Map(), toldBy, quiet: 0 };
    take.listen(() => this.#refine(session));
    return session;
  }

  /** Open the take with the refined frames of another one, once that names it. @param {Session} session */
  #refine(session) {
    const { refined } = session.take.info;
    if (!refined || session.refined?.take.token === refined) return;
    const known = this.#sessions.has(refined);
    session.refined = this.open(refined);
    session.refined.toldBy = session.toldBy;
    session.refined.take.info.refines = session.take.token;
    if (!known) this.#refresh(session.refined);
  }

  /** Process a message.
   * @param {string} type @param {TakeInfo & ChunkInfo} message @param {"server"|"tab"} [toldBy] */
  receive(type, message, toldBy = "server") {
    const known = this.#sessions.has(message.take);
    const session = Object.assign(this.open(message.take), { toldBy, quiet: 0 });
    const { seq, first_frame, count, bytes, stats, ...names } = message;
    if (type === CHUNK_EVENT) session.take.add(message);
    else session.take.receive(message);
    if (!known) {
      session.take.update(type === CHUNK_EVENT ? names : {});
      this.#notify();
    }
    if (!known || !session.take.complete) this.#refresh(session);
  }

  /**
   * Show a take in a node that has it as output, perhaps from the host's cache. For two identical
   * nodes the host reports the output of one for both; a node's own take then wins.
   * @param {string} token @param {string} workflow @param {string} node execution id
   * @param {string|null} [prompt]
   */
  async show(token, workflow, node, prompt = null) {
    if (prompt !== null && this.#madeBy(node, prompt).some(({ take }) => take.token !== token)) return;
    const session = this.open(token);
    this.#sessions.delete(token);
    this.#sessions.set(token, session);
    session.shownIn.set(workflow, (session.shownIn.get(workflow) ?? new Set()).add(node));
    if (!session.take.frames || session.take.growing) await this.#refresh(session);
    this.#notify();
  }

  /** Load the takes of a page from before a reload or a lost connection, and what became of those in progress:
   * another run may have begun meanwhile, or another server. @param {string} clientId */
  async attach(clientId) {
    this.setConnected(true);
    this.#recalls.clear(); // a new connection may answer more
    const growing = [...this.#sessions.values()].filter(({ take }) => take.growing);
    const listed = await this.#sessionsOf(clientId).catch((error) => {
      console.warn("Longtake: the takes of this page could not be listed; reload the page to see them.", error);
      return [];
    });
    const sessions = new Set([...growing, ...listed]);
    await Promise.all([...sessions].map((session) => this.#refresh(session)));
    this.#notify();
  }

  /** The takes that the server lists for a page. @param {string} clientId @returns {Promise<Session[]>} */
  async #sessionsOf(clientId) {
    const answer = await this.server.request("/longtake/attach", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ client_id: clientId }),
    });
    const { takes } = answer.ok ? await answer.json() : { takes: [] };
    return takes.map((/** @type {TakeInfo} */ names) => {
      const session = this.open(names.take);
      session.take.update(names);
      return session;
    });
  }

  /** Tell all takes whether the page has a connection to the server. @param {boolean} connected */
  setConnected(connected) {
    this.#connected = connected;
    this.setAnswering(true);
  }

  /** Tell all takes whether the connected server answers. @param {boolean} answering */
  setAnswering(answering) {
    this.#answering = answering;
    for (const { take } of this.#sessions.values()) this.#tell(take);
  }

  /** Whether the server should answer, and whether it does matters now. */
  get expectsAnswers() {
    const growing = [...this.#sessions.values()].some(({ take }) => take.growing);
    return this.#connected && (growing || !this.#answering);
  }

  /** Ask the server for the takes of another tab that has become quiet: it may be closed. Ask again for those that
   * could not be loaded: their last message may be missed. Call this every second or two. */
  askForQuiet() {
    for (const session of this.#sessions.values()) {
      const { toldBy, unloaded, take } = session;
      const expected = (unloaded && take.connected) || (toldBy === "tab" && take.live);
      if (!expected || ++session.quiet < QUIET_TIMES) continue;
      session.quiet = 0;
      void this.#refresh(session);
    }
  }

  /** @param {Take} take */
  #tell(take) {
    take.setConnection(this.#connected ? (this.#answering ? "open" : "silent") : "closed");
  }

  /** Call `listener` when a node's takes change; returns a function that ends this.
   * @param {() => void} listener */
  listen(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Return whether a node has a take from a prompt. @param {string} node execution id @param {string} prompt */
  hasTake(node, prompt) {
    return this.#madeBy(node, prompt).length > 0;
  }

  /** @param {string} node @param {string} prompt */
  #madeBy(node, prompt) {
    return [...this.#sessions.values()].filter(({ take }) => !take.info.refines &&
      take.info.prompt_id === prompt && (take.info.display_node_id ?? take.info.node_id) === node);
  }

  #notify() {
    for (const listener of this.#listeners) listener();
  }

  /** @param {Session} session */
  async #refresh(session) {
    session.unloaded = false;
    try {
      await session.transport.refresh();
    } catch (error) {
      session.unloaded = true;
      console.warn("Longtake: a take could not be loaded; retrying.", error);
    }
  }
}

/**
 * Return the execution ids of the nodes that show a take in a workflow.
 * @param {Session} session @param {string|null} workflow null: any
 */
export function nodesOf({ take, shownIn }, workflow) {
  const { workflow_id: origin, node_id: node, display_node_id: shown, refines } = take.info;
  if (refines) return []; // the take that it refines is shown
  const got = workflow === null ? undefined : shownIn.get(workflow);
  if (got) return [...got];
  const elsewhere = workflow !== null && origin !== null && origin !== workflow;
  return elsewhere ? [] : [shown ?? node ?? ""];
}
