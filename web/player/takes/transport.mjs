// @ts-check
/** @import { Server, TakeInfo, ChunkInfo } from "../types.mjs" */
/** @import { Take } from "./take.mjs" */
import { unpack } from "./packed_chunk.mjs";
import { say } from "../words.mjs";

const FORMAT = 1; // as VERSION in stream/preview/messages.py
const OTHER_FORMAT = "This page and the server run different versions of Longtake; reload the page.";

/** The routes of one take. */
export class Transport {
  #revision = 0;
  /** Controls go out one after the other. @type {Promise<unknown>} */
  #last = Promise.resolve();

  /** @param {Server} server @param {Take} take */
  constructor(server, take) {
    this.server = server;
    this.take = take;
    this.path = `/longtake/takes/${encodeURIComponent(take.token)}`;
  }

  /** Fetch the whole manifest; what messages said while it was under way is newer. */
  async refresh() {
    const { heard } = this.take;
    const answer = await this.server.request(this.path);
    if (answer.status === 404) return this.take.lose();
    if (!answer.ok) throw new Error(`The server answered ${answer.status} about this take.`);
    const { chunks, ...said } = /** @type {TakeInfo & {chunks: ChunkInfo[]}} */ (await answer.json());
    if (said.v !== FORMAT) return this.take.update({ state: "error", message: OTHER_FORMAT });
    this.take.update(this.take.heard === heard ? { ...said, chunks } : { chunks });
  }

  /** A chunk's pictures, or null when the server keeps them no longer. @param {number} seq */
  async chunk(seq) {
    const answer = await this.server.request(`${this.path}/chunks/${seq}`, { cache: "default" });
    if (answer.status === 404 || answer.status === 410) return null;
    if (!answer.ok) throw new Error(`The server answered ${answer.status} for chunk ${seq}.`);
    return unpack(await answer.arrayBuffer());
  }

  /**
   * Ask the run for something. Another tab may have counted on: then once more with its count.
   * @param {"pause"|"resume"|"stop"|"prompt"|"guidance"|"lora"} op
   * @param {{text?: string, guidance?: number, lora?: number}} [fields]
   */
  control(op, fields = {}) {
    const sent = this.#last.then(async () => {
      const done = (await this.#send(op, fields)) || (await this.#send(op, fields));
      if (!done) throw new Error(say("The run does not take this now: it is over, or nothing controls it."));
    });
    this.#last = sent.catch(() => undefined);
    return sent;
  }

  /**
   * The state that comes back is older than a message that may have overtaken it: it is not taken.
   * @param {string} op @param {object} fields
   * @returns {Promise<boolean>} false if the revision was not new enough, or the run is over
   */
  async #send(op, fields) {
    const rev = Math.max(this.#revision, this.take.info.control_rev) + 1;
    const answer = await this.server.request(`${this.path}/control`, {
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
