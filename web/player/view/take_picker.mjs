// @ts-check
/** @import { Reel } from "./reel.mjs" */
/** @import { Session } from "../takes/library.mjs" */
import { element } from "./dom.mjs";
import { say } from "../words.mjs";

/** Which take to look at, when one node shows several (two instances of one subgraph). */
export class TakePicker {
  /** @type {Session[]} */
  choices = [];
  #said = "";

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    const change = () => reel.load(this.choices[this.select.selectedIndex] ?? null);
    /** @type {HTMLSelectElement} */
    this.select = element("select", { "aria-label": say("Take"), change });
    /** @type {HTMLElement} */
    this.element = element("label", { class: "lt-picker", hidden: true }, `${say("Take of node")} `, this.select);
  }

  /** @param {Session[]} choices */
  offer(choices) {
    this.choices = choices;
    this.reel.onChange();
  }

  update() {
    const names = this.choices.map(({ take }) => take.info.node_id ?? "?");
    const said = JSON.stringify([names, this.reel.take?.token]);
    if (said === this.#said) return;
    this.#said = said;
    this.element.hidden = names.length < 2;
    this.select.replaceChildren(...names.map((name) => element("option", {}, name)));
    this.select.selectedIndex = this.choices.indexOf(/** @type {any} */ (this.reel.session));
  }
}
