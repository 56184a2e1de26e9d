// @ts-check
/** @import { ChunkInfo, Server, TakeInfo } from "../types.mjs" */
import { ByteStore } from "./byte_store.mjs";
import { Fetcher } from "./fetcher.mjs";
import { Take } from "./take.mjs";
import { Transport } from "./transport.mjs";

const STORE_BYTES = 256 * 2 ** 20; // 10 minutes of 832x480 at 16 fps are two to three times that
const MOST_TAKES = 24;
export const TAKE_EVENT = "longtake.take";
export const CHUNK_EVENT = "longtake.take.chunk";

/**
 * @typedef {{take: Take, transport: Transport, fetcher: Fetcher, shownIn: Map<string, Set<string>>}}
 *   Session  `shownIn`: by workflow, the nodes that got it, perhaps without running, wherever it was made
 */

/** Every take this page has heard of. Outlives nodes, workflow tabs and connections. */
export class Library {
  /** @type {Map<string, Session>} the newest last */
  #sessions = new Map();
  /** @type {Set<() => void>} */
  #listeners = new Set();

  /** @param {Server} server @param {number} [storeBytes] */
  constructor(server, storeBytes = STORE_BYTES) {
    this.server = server;
    this.store = new ByteStore(storeBytes);
  }

  /** The newest take of each node of a workflow, by execution id, the newest last.
   * @param {string|null} workflow null: of any workflow @returns {Map<string, Session>} */
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
    const take = new Take(token);
    const transport = new Transport(this.server, take);
    const fetcher = new Fetcher(take, transport, this.store);
    const session = { take, transport, fetcher, shownIn: new Map() };
    this.#sessions.set(token, session);
    const [oldest] = this.#sessions.keys();
    if (this.#sessions.size > MOST_TAKES) this.#sessions.delete(oldest);
    return session;
  }

  /** A message from the server, or passed on by another tab.
   * @param {string} type @param {TakeInfo & ChunkInfo} said */
  hear(type, said) {
    const known = this.#sessions.has(said.take);
    const session = this.open(said.take);
    const { seq, first_frame, count, bytes, stats, ...names } = said;
    if (type === CHUNK_EVENT) session.take.add(said);
    else session.take.hear(said);
    if (!known) {
      session.take.update(type === CHUNK_EVENT ? names : {});
      this.#tell();
    }
    if (!known || !session.take.complete) this.#refresh(session);
  }

  /**
   * A node of a workflow got this take as its output, perhaps without being run again. Of two nodes
   * alike the host gives both the output of one, though both have run: then its own take is better.
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
    this.#tell();
  }

  /** Find the takes that were made for this page before it was reloaded. @param {string} clientId */
  async attach(clientId) {
    const answer = await this.server.request("/longtake/attach", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ client_id: clientId }),
    });
    if (!answer.ok) return;
    const { takes } = await answer.json();
    const sessions = takes.map((/** @type {TakeInfo} */ names) => {
      const session = this.open(names.take);
      session.take.update(names);
      return session;
    });
    await Promise.all(sessions.map((/** @type {Session} */ session) => this.#refresh(session)));
    this.#tell();
  }

  /** After the connection was lost: ask again about everything that may have gone on. */
  async catchUp() {
    const growing = [...this.#sessions.values()].filter(({ take }) => take.growing);
    await Promise.all(growing.map((session) => this.#refresh(session)));
  }

  /** Be told when a node has another take to show; returns the function that ends it.
   * @param {() => void} listener */
  listen(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** @param {string} node @param {string} prompt */
  #madeBy(node, prompt) {
    return [...this.#sessions.values()].filter(({ take }) =>
      take.info.prompt_id === prompt && (take.info.display_node_id ?? take.info.node_id) === node);
  }

  #tell() {
    for (const listener of this.#listeners) listener();
  }

  /** @param {Session} session */
  async #refresh({ transport }) {
    try {
      await transport.refresh();
    } catch (error) {
      console.warn("Longtake: a take could not be read; the next message asks again.", error);
    }
  }
}

/**
 * The execution ids of the nodes that show a take in a workflow.
 * @param {Session} session @param {string|null} workflow null: any
 */
export function nodesOf({ take, shownIn }, workflow) {
  const { workflow_id: made, node_id: node, display_node_id: shown } = take.info;
  const got = workflow === null ? undefined : shownIn.get(workflow);
  if (got) return [...got];
  const elsewhere = workflow !== null && made !== null && made !== workflow;
  return elsewhere ? [] : [shown ?? node ?? ""];
}
