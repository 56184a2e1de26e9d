// @ts-check
/** @import { Server, TakeInfo, ChunkInfo } from "../types.mjs" */
/** @import { Take } from "./take.mjs" */
import { unpack } from "./packed_chunk.mjs";
import { ask } from "./patience.mjs";
import { translate } from "../words.mjs";

const FORMAT = 1; // as VERSION in stream/preview/messages.py
const OTHER_FORMAT = "This page and the server run different versions of Longtake; reload the page.";

/** The routes of one take. */
export class Transport {
  #revision = 0;
  /** Sends controls one after the other. @type {Promise<unknown>} */
  #last = Promise.resolve();

  /** @param {Server} server @param {Take} take */
  constructor(server, take) {
    this.server = server;
    this.take = take;
    this.path = `/longtake/takes/${encodeURIComponent(take.token)}`;
  }

  /** Fetch the whole manifest. Messages that arrive meanwhile are newer and win. */
  async refresh() {
    const { messageCount } = this.take;
    const answer = await ask(this.server, this.path);
    if (answer.status === 404) return this.take.markLost();
    if (!answer.ok) throw new Error(`The server answered ${answer.status} for this take.`);
    const { chunks, ...state } = /** @type {TakeInfo & {chunks: ChunkInfo[]}} */ (await answer.json());
    if (state.v !== FORMAT) return this.take.update({ state: "error", message: OTHER_FORMAT });
    this.take.update(this.take.messageCount === messageCount ? { ...state, chunks } : { chunks });
  }

  /** Fetch a chunk's pictures; null if the server no longer has them. @param {number} seq */
  async chunk(seq) {
    const answer = await ask(this.server, `${this.path}/chunks/${seq}`, { cache: "default" });
    if (answer.status === 404 || answer.status === 410) return null;
    if (!answer.ok) throw new Error(`The server answered ${answer.status} for chunk ${seq}.`);
    return unpack(await answer.arrayBuffer());
  }

  /**
   * Send a control to the run. Another tab may have raised the revision; then retry once with the new one.
   * @param {"pause"|"resume"|"stop"|"edit"} op
   * @param {{text?: string, over?: number, guidance?: number, lora?: number}} [fields]
   */
  control(op, fields = {}) {
    const sent = this.#last.then(async () => {
      const done = (await this.#send(op, fields)) || (await this.#send(op, fields));
      if (!done) throw new Error(translate("This run has ended or cannot be controlled."));
    });
    this.#last = sent.catch(() => undefined);
    return sent;
  }

  /** Say what a person holds who drives the camera. @param {object} body
   * @returns {Promise<import("../drive/driver.mjs").Answer>} */
  async steer(body) {
    const answer = await ask(this.server, `${this.path}/drive`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const said = await answer.json();
    if (!said.answer) throw new Error(said.error ?? `The server answered ${answer.status}.`);
    return said;
  }

  /** Send a picture of a camera or a screen, or why there is none; returns whether the run wants more.
   * @param {Blob|string} news a JPEG, or a fault as in stream/incoming/inlet.py @returns {Promise<boolean>} */
  async give(news) {
    const isPicture = typeof news !== "string";
    const answer = await ask(this.server, `${this.path}/input`, {
      method: "POST",
      headers: { "Content-Type": isPicture ? "image/jpeg" : "application/json" },
      body: isPicture ? news : JSON.stringify({ fault: news }),
    });
    return answer.ok && (await answer.json()).wanted;
  }

  /** Fetch the drive as lines of a camera's timeline. @returns {Promise<string[]>} */
  async driveLines() {
    const answer = await this.#reach(`${this.path}/drive`);
    const body = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(body.error ?? `The server answered ${answer.status}.`);
    return body.lines;
  }

  /** @param {string} path @param {RequestInit} [init] */
  #reach(path, init) {
    return ask(this.server, path, init).catch(() => {
      throw new Error(translate("The server does not answer. See whether this was done before you try again."));
    });
  }

  /**
   * Send one request. The returned state is ignored, because a newer message may have overtaken it.
   * @param {string} op @param {object} fields
   * @returns {Promise<boolean>} false if the revision was too old, or the run has ended
   */
  async #send(op, fields) {
    const rev = Math.max(this.#revision, this.take.info.control_rev) + 1;
    const answer = await this.#reach(`${this.path}/control`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ op, rev, ...fields }),
    });
    const body = await answer.json().catch(() => ({}));
    this.#revision = Math.max(rev, body.control_rev ?? 0);
    if (answer.status === 409) return false;
    if (!answer.ok) throw new Error(body.error ?? `The server answered ${answer.status}.`);
    return true;
  }
}
