// @ts-check
/** @import { Reel } from "./reel.mjs" */
import { element, iconButton } from "./dom.mjs";
import { translate } from "../words.mjs";

/** Copies the address at which other programs, such as OBS and VLC, show this node's runs. */
export class LiveAddress {
  #take = "";

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    this.button = iconButton("cast", translate("Use in OBS: copy the address of the live picture"), () => this.#copy());
    /** @type {HTMLElement} */
    this.note = element("p", { class: "lt-note lt-address", role: "status", hidden: true });
  }

  /** The address of the live picture, or null. */
  get url() {
    const live = this.reel.shownTake?.info.live;
    return live ? (this.reel.server.url?.(`/longtake/live/${live}/live.mp4`) ?? null) : null;
  }

  update() {
    this.button.hidden = this.url === null;
    if (this.#take === (this.reel.take?.token ?? "")) return;
    this.#take = this.reel.take?.token ?? "";
    this.note.hidden = true;
  }

  async #copy() {
    const { url } = this;
    if (!url) return;
    const copied = await copyText(url);
    const text = copied
      ? translate("The address is copied. In OBS, add a Media Source, clear Local File and paste the address as Input:")
      : translate("Copy this address. In OBS, add a Media Source, clear Local File and paste the address as Input:");
    this.note.replaceChildren(`${text} `, element("code", {}, url));
    this.note.hidden = false;
    this.reel.onChange();
  }
}

/** Browsers refuse the clipboard to pages without https. @param {string} text @returns {Promise<boolean>} */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
