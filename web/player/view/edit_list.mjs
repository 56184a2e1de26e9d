// @ts-check
/** @import { Reel } from "./reel.mjs" */
/** @import { Edit } from "../types.mjs" */
import { element, textButton } from "./dom.mjs";
import { time } from "./format.mjs";
import { say } from "../words.mjs";

const STATUS = {
  queued: () => say("queued"), encoding: () => say("encoding"), applied: () => say("applied"), failed: () => say("failed"),
};

/** What was asked of the run and what became of it; an applied edit can be kept for good. */
export class EditList {
  #said = "";
  /** Lines written into the workflow, or why they could not be. @type {Map<string, string>} */
  #kept = new Map();

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    /** @type {HTMLElement} */
    this.element = element("ul", { class: "lt-edits", "aria-label": say("Edits"), role: "log" });
  }

  update() {
    const edits = this.reel.take?.info.edits ?? [];
    const said = JSON.stringify([this.reel.take?.token, edits, [...this.#kept]]);
    if (said === this.#said) return;
    this.#said = said;
    this.element.hidden = edits.length === 0;
    this.element.replaceChildren(...edits.map((edit) => this.#row(edit)).reverse());
  }

  /** @param {Edit} edit */
  #row(edit) {
    const status = element("span", { class: `lt-status lt-${edit.status}` }, statusWords(edit));
    const what = element("span", { class: "lt-what" }, wishWords(edit));
    const row = element("li", {}, status, what);
    row.title = edit.error ?? edit.text ?? "";
    const { line } = edit;
    if (edit.status !== "applied" || line === null || !this.reel.place.keepLine) return row;
    const outcome = this.#kept.get(this.#key(line));
    if (outcome !== undefined) row.append(element("span", { class: "lt-outcome" }, outcome));
    else row.append(this.#keepButton(line));
    return row;
  }

  /** @param {string} line */
  #keepButton(line) {
    const keep = textButton(say("Keep edit"), () => {
      const { session, place } = this.reel;
      if (!session || !place.keepLine) return;
      this.#kept.set(this.#key(line), place.keepLine(session, line) ?? say("Kept in Prompt Timeline"));
      this.reel.onChange();
    });
    keep.title = say("Write “{line}” into the Prompt Timeline, so that the workflow makes this shot again", { line });
    return keep;
  }

  /** @param {string} line */
  #key(line) {
    return `${this.reel.take?.token} ${line}`;
  }
}

/** @param {Edit} edit */
function statusWords({ status, start_s: at, error }) {
  if (status === "applied" && at !== null) return say("applied at {at}", { at: time(at) });
  if (status === "failed" && error) return say("failed: {reason}", { reason: error });
  return STATUS[status]();
}

/** @param {Edit} edit */
function wishWords({ text, guidance, lora }) {
  const wishes = [];
  if (text !== null) wishes.push(text);
  if (guidance !== null) wishes.push(say("guidance {strength}", { strength: guidance }));
  if (lora !== null) wishes.push(`LoRA × ${lora}`);
  return wishes.join(", ");
}
