// @ts-check
/** @import { Reel } from "./reel.mjs" */
/** @import { Edit } from "../types.mjs" */
import { PromptKeys } from "../prompts/prompt_keys.mjs";
import { element, keepTyped, textButton } from "./dom.mjs";
import { EditList } from "./edit_list.mjs";
import { RestartButtons } from "./restart_buttons.mjs";
import { translate } from "../words.mjs";

const LONG_PAUSE_S = 60; // then the server moves the KV cache to main memory
const MAX_GUIDANCE = 30; // stream/rollout/live/edit_queue.py: MAX_GUIDANCE
const MAX_OVER_S = 600; // stream/rollout/live/edit_queue.py: MAX_OVER_S

/** The controls of the run: pause, resume, stop, prompt, guidance, LoRA, prompts on keys. */
export class RunControls {
  #longPause = 0;
  #pausedLong = false;
  #take = "";
  /** What the form wrote into the prompt's field itself, or the run accepted from there: no unsent work. */
  #filled = "";

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    this.pause = textButton(translate("Pause run"), () => this.#togglePause());
    this.stop = textButton(translate("Stop"), () => this.#send("stop"));
    this.stop.title = translate("Finish this chunk, keep all frames and continue with the workflow");
    this.edit = textButton(translate("Edit prompt"), () => this.#toggleForm());
    this.edit.setAttribute("aria-expanded", "false");
    this.keys = new PromptKeys(reel, (change) => void this.#sendPrepared(change));
    const row = element("div", { class: "lt-run" }, this.pause, this.stop, this.edit, this.keys.button);
    this.free = textButton(translate("Stop and free the queue"), () => this.#send("stop"), "lt-primary");
    this.wait = this.#waitNotice();
    this.error = element("p", { class: "lt-bad", role: "alert", hidden: true });
    const keydown = (/** @type {KeyboardEvent} */ event) => this.#typed(event);
    /** @type {HTMLTextAreaElement} */
    this.prompt = element("textarea", {
      rows: 3, "aria-label": translate("Prompt from the next chunk on"), "data-capture-wheel": "true", keydown,
    });
    /** @type {HTMLInputElement} */
    this.guidance = element("input", {
      type: "number", step: 0.1, min: 0, max: MAX_GUIDANCE, placeholder: translate("same"), keydown,
    });
    /** @type {HTMLInputElement} */
    this.lora = element("input", {
      type: "number", step: 0.05, min: -20, max: 20, keydown,
      title: translate("LoRA strength, as a factor of the strength set in the workflow"),
    });
    /** @type {HTMLInputElement} */
    this.over = element("input", {
      type: "number", step: 0.5, min: 0, max: MAX_OVER_S, placeholder: "0", keydown,
      title: translate("Seconds over which the prompt blends in"),
    });
    this.applyButton = textButton(translate("Apply"), () => this.#apply(), "lt-primary");
    this.applyButton.title = translate("From the next chunk on (Ctrl+Enter)");
    this.ended = element("p", { class: "lt-note", role: "status", hidden: true }, translate("The run has ended."));
    this.form = this.#form();
    this.edits = new EditList(reel);
    this.restart = new RestartButtons(reel, (text) => this.#showError(text));
    /** @type {HTMLElement} */
    this.element = element(
      "div", { class: "lt-run-panel", role: "group", "aria-label": translate("The run") },
      row, this.restart.element, this.wait, this.error, this.keys.list, this.keys.editor, this.form, this.edits.element,
    );
  }

  #waitNotice() {
    const text = [
      translate("Paused for over a minute. ComfyUI's queue is waiting, and the model stays in memory."),
      translate("Stopping keeps every frame. Queue the workflow again to continue."),
    ].join(" ");
    return element("div", { class: "lt-wait", role: "status", hidden: true }, text, " ", this.free);
  }

  #form() {
    const guidance = element("label", {}, `${translate("Guidance")} `, this.guidance);
    const lora = element("label", {}, "LoRA × ", this.lora);
    const over = element("label", {}, `${translate("Over")} `, this.over, " s");
    const row = element("div", { class: "lt-form-row" }, over, guidance, lora, this.applyButton);
    const focusout = () => this.reel.onChange(); // nothing may hold the form of an ended run open now
    const input = () => this.#keepDraft();
    return element("div", { class: "lt-form", hidden: true, focusout, input }, this.prompt, row, this.ended);
  }

  /** @param {KeyboardEvent} event */
  #typed(event) {
    keepTyped(event);
    if (event.isComposing || event.repeat) return; // Escape and Enter are the input method's; a held key applies once
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!this.applyButton.disabled) this.#apply();
    } else if (event.key === "Escape") {
      this.#toggleForm();
      this.edit.focus();
    }
  }

  /** @param {boolean} open */
  #openForm(open) {
    this.form.hidden = !open;
    this.edit.setAttribute("aria-expanded", String(open));
  }

  /** Remember the open form, and what the user typed into it, for the next player of the take. */
  #keepDraft() {
    const { session } = this.reel;
    if (!session) return;
    const [over, guidance, lora] = this.#numbers.map((field) => field.value);
    const draft = { prompt: this.#isOwn ? this.prompt.value : "", over, guidance, lora };
    session.draft = this.form.hidden ? undefined : draft;
  }

  /** Whether the prompt's field holds unsent words of the user. */
  get #isOwn() {
    return !["", this.#filled].includes(this.prompt.value.trim());
  }

  get #numbers() {
    return [this.over, this.guidance, this.lora];
  }

  get #isTyping() {
    return [this.prompt, ...this.#numbers].some((field) => field === document.activeElement);
  }

  #fill() {
    if (!this.#isOwn) this.prompt.value = this.#filled = this.#promptNow;
  }

  #toggleForm() {
    this.#openForm(this.form.hidden);
    if (!this.form.hidden) this.#fill();
    this.#keepDraft();
    if (!this.form.hidden) this.prompt.focus();
  }

  #togglePause() {
    const paused = this.reel.take?.info.state === "paused";
    this.#send(paused ? "resume" : "pause");
  }

  /** The prompt from the next chunk on: that of the newest edit, unless the Prompt Timeline has changed it since. */
  get #promptNow() {
    const { take, frames } = this.reel;
    const shown = take?.promptAt(frames);
    const edit = take?.info.edits.findLast(({ status, text }) => text !== null && status !== "failed");
    const isNewer = edit && (edit.first_frame ?? Infinity) >= (shown?.frame ?? 0);
    return (isNewer ? edit.text : shown?.text)?.trim() ?? "";
  }

  /** The number from the next chunk on, if it is known: that of an edit that no picture shows yet, or else the newest
   * chunk's. @param {"guidance"|"lora"} name */
  #inForce(name) {
    const { take, frames } = this.reel;
    const edit = take?.info.edits.findLast((each) => each[name] !== null && each.status !== "failed" && (each.first_frame ?? Infinity) >= frames);
    const number = edit?.[name] ?? take?.info.stats[name];
    return number == null ? null : String(Number(number.toFixed(4))); // as many digits as the server keeps of an edit
  }

  /** Send all parts as one edit: the server puts all of them in force, or none. A prompt that nobody touched does
   * not go along with a number: the Prompt Timeline may have changed it since the form was opened. Nor does a number
   * go along with later prompts, which would put it in force again. */
  async #apply() {
    const text = this.prompt.value.trim();
    const numbers = { guidance: numberIn(this.guidance), lora: numberIn(this.lora) };
    const alone = Object.values(numbers).every((number) => number === undefined);
    const wanted = text !== "" && text !== this.#promptNow && (alone || text !== this.#filled);
    if (!wanted && alone) return this.#showError(translate("Nothing to apply: change the prompt, the guidance or the LoRA first."));
    const sent = this.#numbers.map(({ value }) => value);
    const over = numberIn(this.over);
    if (!wanted && over !== undefined && over !== 0) return this.#showError(translate("Only a new prompt blends in. Change the prompt, or empty the field Over."));
    if (!await this.#send("edit", { ...numbers, ...(wanted && { text, over }) })) return;
    if (wanted) this.#filled = text;
    for (const [at, field] of this.#numbers.entries()) if (field.value === sent[at]) field.value = ""; // else typed meanwhile
    this.#keepDraft();
  }

  /** @param {import("../prompts/prepared.mjs").Change|null} change of a prompt on a key */
  async #sendPrepared(change) {
    if (change) await this.#send("edit", change);
    else this.#showError(translate("The brackets before this prompt cannot be read. Write (over 2): or (guidance 3, lora 0): with a colon before the prompt."));
  }

  /** Returns whether the run accepted it. @param {"pause"|"resume"|"stop"|"edit"} op
   * @param {{text?: string, over?: number, guidance?: number, lora?: number}} [fields] */
  async #send(op, fields) {
    this.#showError("");
    try {
      await this.reel.session?.transport.control(op, fields);
      return true;
    } catch (error) {
      this.#showError(error instanceof Error ? error.message : String(error));
      return false;
    }
  }

  /** @param {string} text */
  #showError(text) {
    this.error.textContent = text;
    this.error.hidden = text === "";
  }

  /** Another take knows nothing of the numbers and the refusals of the one before. */
  #begin() {
    this.#take = this.reel.take?.token ?? "";
    this.#showError("");
    const { draft } = this.reel.session ?? {};
    this.over.value = draft?.over ?? "";
    this.guidance.value = draft?.guidance ?? "";
    this.lora.value = draft?.lora ?? "";
    if (draft) {
      this.prompt.value = draft.prompt;
      this.#fill();
      this.#openForm(true);
    } else if (this.reel.growing) this.#keepDraft();
    else if (!this.#isTyping) this.#openForm(false); // the words are the earlier take's, and come back with it
  }

  update() {
    const { take } = this.reel;
    if (this.#take !== (take?.token ?? "")) this.#begin();
    const state = take?.info.state ?? "waiting";
    const active = !!take?.growing;
    const obeys = !!take?.live && state !== "waiting" && state !== "stopping";
    this.restart.update();
    if (!active && !this.#isTyping && !this.#isOwn) this.#openForm(false);
    const closed = this.form.hidden;
    this.ended.hidden = active;
    this.keys.update(active, obeys, this.#promptNow);
    const rest = [this.restart.element, this.keys.button].every((part) => part.hidden);
    this.element.hidden = !active && closed && !take?.info.edits.length && rest;
    this.pause.hidden = this.stop.hidden = !active;
    this.edit.hidden = !active && closed;
    this.pause.textContent = state === "paused" ? translate("Resume run") : translate("Pause run");
    for (const button of [this.pause, this.stop, this.applyButton, this.free]) button.disabled = !obeys;
    this.edit.disabled = !obeys && closed;
    this.guidance.placeholder = this.#inForce("guidance") ?? translate("same");
    this.lora.placeholder = this.#inForce("lora") ?? "1";
    this.#watchPause(state === "paused");
    this.wait.hidden = !this.#pausedLong;
    this.edits.update();
  }

  /** Offer to free the queue after a long pause, as far as this player saw it. @param {boolean} paused */
  #watchPause(paused) {
    if (!paused) {
      clearTimeout(this.#longPause);
      this.#longPause = 0;
      this.#pausedLong = false;
    } else if (!this.#longPause) {
      this.#longPause = window.setTimeout(() => {
        this.#pausedLong = true;
        this.reel.onChange();
      }, LONG_PAUSE_S * 1000);
    }
  }

  dispose() {
    clearTimeout(this.#longPause);
  }
}

/** Return the number in a field, or undefined if it is empty. What is no number becomes NaN, in JSON
 * null, which the server refuses. @param {HTMLInputElement} field */
function numberIn(field) {
  return field.value === "" && !field.validity.badInput ? undefined : field.valueAsNumber;
}
