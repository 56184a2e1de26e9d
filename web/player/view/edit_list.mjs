// @ts-check
/** @import { Reel } from "./reel.mjs" */
/** @import { Edit } from "../types.mjs" */
import { element, textButton } from "./dom.mjs";
import { time } from "./format.mjs";
import { translate } from "../words.mjs";

const CHECK_MS = 500; // between two searches of the workflow for the lines of all edits: it takes long for a long shot
const STATUS = {
  queued: () => translate("queued"), encoding: () => translate("encoding"), applied: () => translate("applied"), failed: () => translate("failed"),
};

/** The live edits of a run and their status. An applied edit can be kept in the workflow. */
export class EditList {
  #rendered = "";
  #known = ""; // the edits when the workflow was searched
  #searchedAt = -Infinity; // milliseconds
  /** Whether the workflow contains each edit's line. @type {boolean[]} */
  #kept = [];
  /** Why a line could not be written into the workflow. @type {Map<string, string>} */
  #errors = new Map();

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    /** @type {HTMLElement} */
    this.element = element("ul", { class: "lt-edits", "aria-label": translate("Edits"), role: "log" });
  }

  update() {
    const edits = this.reel.take?.info.edits ?? [];
    const known = JSON.stringify([this.reel.take?.token, edits]);
    this.#search(edits, known);
    const content = JSON.stringify([known, this.#kept, [...this.#errors]]);
    if (content === this.#rendered) return;
    this.#rendered = content;
    this.element.hidden = edits.length === 0;
    this.element.replaceChildren(...edits.map((edit, index) => this.#row(edit, this.#kept[index])).reverse());
  }

  /** Search the workflow for the lines of new edits at once, and now and then again: the user may change it.
   * @param {Edit[]} edits @param {string} known */
  #search(edits, known) {
    const now = performance.now();
    if (known === this.#known && now - this.#searchedAt < CHECK_MS) return;
    [this.#known, this.#searchedAt] = [known, now];
    this.#kept = edits.map((edit) => this.#isKept(edit));
  }

  /** @param {Edit} edit @param {boolean} kept in the workflow */
  #row(edit, kept) {
    const status = element("span", { class: `lt-status lt-${edit.status}` }, statusText(edit));
    const what = element("span", { class: "lt-what" }, changeText(edit));
    const row = element("li", {}, status, what);
    row.title = edit.error ?? edit.text ?? "";
    const { line } = edit;
    if (edit.status !== "applied" || line === null || !this.reel.place.keepLine) return row;
    const refusal = this.#errors.get(this.#key(line));
    if (kept) row.append(element("span", { class: "lt-outcome" }, translate("Kept in Prompt Timeline")));
    else if (refusal !== undefined) row.append(element("span", { class: "lt-refusal" }, refusal));
    else row.append(this.#keepButton(line));
    return row;
  }

  /** @param {string} line */
  #keepButton(line) {
    const keep = textButton(translate("Keep edit"), () => {
      const { session, place } = this.reel;
      if (!session || !place.keepLine) return;
      const error = place.keepLine(session, line);
      if (error) this.#errors.set(this.#key(line), error);
      this.#searchedAt = -Infinity; // the workflow has changed
      this.reel.onChange();
    });
    keep.title = translate("Write “{line}” into the Prompt Timeline, so that the workflow reproduces this shot", { line });
    return keep;
  }

  /** Return whether the workflow contains an edit's line. @param {Edit} edit */
  #isKept({ line }) {
    const { session, place } = this.reel;
    return line !== null && !!session && !!place.isKept?.(session, line);
  }

  /** @param {string} line */
  #key(line) {
    return `${this.reel.take?.token} ${line}`;
  }
}

/** @param {Edit} edit */
function statusText({ status, start_s: at, error }) {
  if (status === "applied" && at !== null) return translate("applied at {at}", { at: time(at) });
  if (status === "failed" && error) return translate("failed: {reason}", { reason: error });
  return STATUS[status]();
}

/** @param {Edit} edit */
function changeText({ text, over_s: over, guidance, lora, strength, level, seed }) {
  const changes = [];
  if (text !== null) changes.push(text);
  if (over != null) changes.push(translate("over {seconds} s", { seconds: over }));
  if (guidance !== null) changes.push(translate("guidance {strength}", { strength: guidance }));
  if (lora !== null) changes.push(`LoRA × ${lora}`);
  if (strength != null) changes.push(translate("control strength {strength}", { strength }));
  if (level != null) changes.push(translate("noise level {level}", { level }));
  if (seed != null) changes.push(translate("seed {seed}", { seed }));
  return changes.join(", ");
}
