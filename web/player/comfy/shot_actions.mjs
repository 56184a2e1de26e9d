// @ts-check
/** @import { Session } from "../types.mjs" */
/** What the buttons of a player do to the workflow. Nodes, graphs, app and api are the host's, hence `any`. */
import { translate } from "../words.mjs";
import { decoderOf, forkObstacle, forkWidgets, jointObstacle, shotOf } from "./fork_terms.mjs";
import { executionId, nodesBelow } from "./graph.mjs";
import { insertBefore } from "./insert_node.mjs";
import { keepDrive } from "./lines/camera_lines.mjs";
import { preparedAt } from "./lasting/prepared_prompts.mjs";
import { isKept, keepLine } from "./lines/kept_lines.mjs";
import { renewSeed } from "./new_seed.mjs";
import { showNode } from "./show_node.mjs";

const FORK = "LongtakeEditRollout";

/** The changes of a workflow that one preview node offers. Text that is returned is an error message. */
export class ShotActions {
  /** @param {any} app @param {any} api @param {any} node of the preview */
  constructor(app, api, node) {
    this.app = app;
    this.api = api;
    this.node = node;
    this.prepared = preparedAt(node);
  }

  /** Write an edit into the Prompt Timeline of the shot. @param {Session} session @param {string} line */
  keepLine(session, line) {
    const error = keepLine(this.#root, this.#shot(session), session, line);
    session.workflowChanged ||= error === null;
    this.app.canvas?.setDirty?.(true, true);
    return error;
  }

  /** Whether the workflow contains an edit. @param {Session} session @param {string} line */
  isKept(session, line) {
    return isKept(this.#root, this.#shot(session), session, line);
  }

  /** Write a drive into the Camera Path of the shot. @param {Session} session @param {string[]} lines */
  keepDrive(session, lines) {
    const error = keepDrive(this.#root, this.#shot(session), lines);
    session.driveKept = error === null;
    session.workflowChanged ||= error === null;
    this.app.canvas?.setDirty?.(true, true);
    return error;
  }

  /**
   * Insert a Fork, Rewind or Continue node, set to `fork`, before the shot's decoder.
   * @param {Session} session @param {number} seconds @returns {string|null}
   */
  fork(session, seconds) {
    const id = this.#idFor(session);
    const obstacle = jointObstacle(this.#root, id)
      ?? forkObstacle(session, seconds, (line) => this.isKept(session, line));
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
    showNode(this.app, fork); // the user types a prompt there
    return null;
  }

  /**
   * Run the workflow: again, or `afresh` with a new seed instead of the run in progress.
   * @param {Session} session @param {boolean} afresh @returns {string|null}
   */
  restart(session, afresh) {
    if (afresh && !renewSeed(this.#root, this.#shot(session))) {
      return translate("No Diffusion-Forcing Sampler with a seed of its own feeds this preview. Change the seed by hand, then press Run.");
    }
    const { growing, info } = session.take;
    if (afresh && growing) this.api.interrupt(info.prompt_id);
    this.app.queuePrompt(0, 1);
    return null;
  }

  get #root() {
    return this.app.rootGraph ?? this.app.graph;
  }

  /** Return the execution id of the node upstream of which the take's shot is made. @param {Session} session */
  #shot(session) {
    return shotOf(this.#root, this.#idFor(session));
  }

  /** Return the execution id of the preview: two instances of a subgraph share one node. @param {Session} session */
  #idFor({ take }) {
    const ids = nodesBelow(this.#root, (node) => node === this.node).map(executionId);
    const { node_id: node, display_node_id: shown } = take.info;
    return ids.find((id) => id === (shown ?? node)) ?? ids[0] ?? "";
  }
}
