// @ts-check
/** @import { Reel } from "./reel.mjs" */
/** @import { Session } from "../takes/library.mjs" */
import { element } from "./dom.mjs";
import { translate } from "../words.mjs";

/** Chooses between several takes of one node (two instances of one subgraph). */
export class TakePicker {
  /** @type {Session[]} */
  choices = [];
  #rendered = "";

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    const change = () => reel.load(this.choices[this.select.selectedIndex] ?? null);
    /** @type {HTMLSelectElement} */
    this.select = element("select", { "aria-label": translate("Take"), change });
    /** @type {HTMLElement} */
    this.element = element("label", { class: "lt-picker", hidden: true }, `${translate("Take of node")} `, this.select);
  }

  /** @param {Session[]} choices */
  offer(choices) {
    this.choices = choices;
    this.reel.onChange();
  }

  update() {
    const names = this.choices.map(({ take }) => take.info.node_id ?? "?");
    const content = JSON.stringify([names, this.reel.take?.token]);
    if (content === this.#rendered) return;
    this.#rendered = content;
    this.element.hidden = names.length < 2;
    this.select.replaceChildren(...names.map((name) => element("option", {}, name)));
    this.select.selectedIndex = this.choices.indexOf(/** @type {any} */ (this.reel.session));
  }
}
