// @ts-check
/** @import { Reel } from "../view/reel.mjs" */
import { element, keepTyped, textButton } from "../view/dom.mjs";
import { translate } from "../words.mjs";
import { changeOf, numberOf, promptsIn } from "./prepared.mjs";

/** Prepared prompts with their keys, as buttons while a run goes on, and the field in which the user writes them. */
export class PromptKeys {
  /** @type {HTMLButtonElement[]} */
  #keys = [];
  #rendered = "";

  /** @param {Reel} reel @param {(change: import("./prepared.mjs").Change|null) => void} send sends a prompt to the run, or
   * says that its line cannot be read */
  constructor(reel, send) {
    this.reel = reel;
    this.send = send;
    this.button = textButton(translate("Prompts on keys"), () => this.toggle());
    this.button.setAttribute("aria-expanded", "false");
    /** @type {HTMLElement} */
    this.list = element("div", { class: "lt-prompts", role: "group", "aria-label": translate("Prompts on keys"), hidden: true });
    /** @type {HTMLTextAreaElement} */
    this.field = element("textarea", {
      rows: 4, "aria-label": translate("Prompts on keys, one a line"), "data-capture-wheel": "true",
      keydown: (/** @type {KeyboardEvent} */ event) => this.#typed(event), input: () => this.#keep(),
    });
    const note = element("p", { class: "lt-note" },
      translate("One prompt a line. The keys 1 to 9 send the first nine to the run; each holds from the next chunk on. A line that begins with (over 2): blends in over 2 seconds."));
    /** @type {HTMLElement} */
    this.editor = element("div", { class: "lt-form", hidden: true }, this.field, note);
  }

  /** Return what a key of the player does, or null if there is no prompt on it. @param {KeyboardEvent} event
   * @returns {(() => void)|null} */
  actionOf(event) {
    const number = this.list.hidden ? null : numberOf(event);
    const key = number === null ? undefined : this.#keys[number - 1];
    return key ? () => key.click() : null;
  }

  /** Open the field for the prompts, or close it. */
  toggle() {
    this.editor.hidden = !this.editor.hidden;
    this.button.setAttribute("aria-expanded", String(!this.editor.hidden));
    this.button.hidden = false; // so that the focus can return to it
    this.reel.onChange();
    (this.editor.hidden ? this.button : this.field).focus();
  }

  /** @param {KeyboardEvent} event */
  #typed(event) {
    keepTyped(event);
    if (event.key === "Escape" && !event.isComposing) this.toggle();
  }

  #keep() {
    this.reel.place.prepared?.write(this.field.value);
    this.reel.onChange();
  }

  /** @param {boolean} active whether the run goes on @param {boolean} obeys whether it takes a prompt now
   * @param {string} prompt from the next chunk on */
  update(active, obeys, prompt) {
    const { prepared } = this.reel.place;
    const text = prepared?.read() ?? "";
    const prompts = promptsIn(text);
    this.#render(prompts);
    if (document.activeElement !== this.field && this.field.value !== text) this.field.value = text;
    this.list.hidden = !active || !prompts.length;
    this.button.hidden = !prepared || (!active && !prompts.length && this.editor.hidden);
    for (const [at, key] of this.#keys.entries()) {
      key.disabled = !obeys;
      key.setAttribute("aria-pressed", String(changeOf(prompts[at])?.text === prompt));
    }
  }

  /** @param {string[]} prompts */
  #render(prompts) {
    const content = prompts.join("\n");
    if (content === this.#rendered) return;
    this.#rendered = content;
    this.#keys = prompts.map((prompt, at) => element(
      "button",
      { type: "button", class: "lt-text lt-prompt", title: prompt, "aria-keyshortcuts": at + 1, click: () => this.send(changeOf(prompt)) },
      element("b", {}, String(at + 1)), ` ${changeOf(prompt)?.text ?? prompt}`,
    ));
    this.list.replaceChildren(...this.#keys);
  }
}
