// @ts-check

const KEPT = 100; // prompts

/** The workflows that prompts came from: the canvas may show another one by the time that a prompt runs. */
export class PromptOrigins {
  /** @type {Map<string, Promise<string|null>>} oldest first */
  #workflows = new Map();

  /** @param {(path: string) => Promise<Response>} request */
  constructor(request) {
    this.request = request;
  }

  /** Return the id of a prompt's workflow; null if the host does not tell. @param {string} prompt */
  of(prompt) {
    const known = this.#workflows.get(prompt);
    if (known) return known;
    const workflow = this.#ask(prompt);
    this.#workflows.set(prompt, workflow);
    const [oldest] = this.#workflows.keys();
    if (this.#workflows.size > KEPT) this.#workflows.delete(oldest);
    return workflow;
  }

  /** @param {string} prompt @returns {Promise<string|null>} */
  async #ask(prompt) {
    try {
      const answer = await this.request(`/jobs/${encodeURIComponent(prompt)}`);
      return answer.ok ? (await answer.json()).workflow_id ?? null : null;
    } catch (error) {
      this.#workflows.delete(prompt); // the next message of the run asks again
      console.warn("Longtake: ComfyUI does not tell a run's workflow; the one on the canvas is taken for it.", error);
      return null;
    }
  }
}
