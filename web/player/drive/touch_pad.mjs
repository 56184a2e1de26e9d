// @ts-check
/** @import { Driver } from "./driver.mjs" */
import { element } from "../view/dom.mjs";
import { translate } from "../words.mjs";

const TAP_MS = 60; // a press of Enter on a button, as short as a tap

/** Buttons for fingers and mice, and an area where dragging looks around. */
export class TouchPad {
  /** @type {Map<string, HTMLButtonElement>} */
  #buttons = new Map();

  /** @param {() => Driver} driver at the wheel now */
  constructor(driver) {
    this.driver = driver;
    const button = (/** @type {string} */ key, /** @type {string} */ sign, /** @type {string} */ name) => this.#button(key, sign, name);
    const moves = element("div", { class: "lt-keys" },
      button("q", "Q", translate("Down")), button("w", "W", translate("Forward")), button("e", "E", translate("Up")),
      button("a", "A", translate("Left")), button("s", "S", translate("Back")), button("d", "D", translate("Right")));
    const turns = element("div", { class: "lt-keys" },
      button("shift", "⇧", translate("Twice as fast")), button("up", "↑", translate("Look up")), this.#look(),
      button("left", "←", translate("Turn left")), button("down", "↓", translate("Look down")), button("right", "→", translate("Turn right")));
    /** @type {HTMLElement} */
    this.element = element("div", { class: "lt-touch", contextmenu: keepHeld }, moves, turns);
  }

  /** @param {string} key @param {string} sign @param {string} name @returns {HTMLButtonElement} */
  #button(key, sign, name) {
    const source = `button ${key}`;
    const release = () => this.driver().set(key, false, source);
    const press = (/** @type {PointerEvent} */ event) => {
      if (event.button) return;
      /** @type {Element} */ (event.currentTarget).setPointerCapture(event.pointerId);
      this.driver().set(key, true, source);
    };
    const click = (/** @type {MouseEvent} */ event) => {
      if (event.detail) return; // a pointer's click: its press and release count
      this.driver().set(key, true, source);
      setTimeout(release, TAP_MS);
    };
    const created = element("button", {
      type: "button", class: "lt-key", title: name, "aria-label": name, "aria-pressed": "false",
      pointerdown: press, pointerup: release, pointercancel: release, lostpointercapture: release, click,
    }, sign);
    this.#buttons.set(key, created);
    return created;
  }

  #look() {
    const move = (/** @type {PointerEvent} */ event) => {
      if (event.buttons & 1) this.driver().look(event.movementX, event.movementY);
    };
    const press = (/** @type {PointerEvent} */ event) => {
      if (!event.button) /** @type {Element} */ (event.currentTarget).setPointerCapture(event.pointerId);
    };
    return element("div", { class: "lt-key lt-look", title: translate("Drag to look around"), pointerdown: press, pointermove: move }, "✥");
  }

  update() {
    const down = new Set(this.driver().keys);
    for (const [key, button] of this.#buttons) button.setAttribute("aria-pressed", String(down.has(key)));
  }
}

/** Let a finger that rests on a button open no menu, neither the browser's nor the node's. @param {PointerEvent} event */
function keepHeld(event) {
  if (event.pointerType !== "touch") return;
  event.preventDefault();
  event.stopPropagation();
}
