// @ts-check
/** Passes wheel, middle-button and right-button events over a player to the canvas below it. */

import { isOnPage } from "./show_node.mjs";

const OWN = "textarea, input, select, video"; // these handle wheel and menu themselves
const MIDDLE_OR_RIGHT = 4 | 2; // of `buttons`

/**
 * Pass these events to the host's canvas, which then zooms, pans or opens the node's menu. With
 * Nodes 2.0 the host passes them itself; in app mode nobody sees the canvas.
 * @param {HTMLElement} element @param {() => HTMLElement|undefined} canvas
 */
export function passEventsThrough(element, canvas) {
  const pass = (/** @type {MouseEvent} */ event) => {
    const target = /** @type {Element} */ (event.target);
    if (element.closest("[data-node-id]") || document.fullscreenElement || target.closest(OWN)) return;
    if (!isOnPage(canvas())) return;
    if (event instanceof WheelEvent && scrolls(target, element, event)) return;
    const Kind = /** @type {typeof MouseEvent} */ (event.constructor);
    event.preventDefault();
    event.stopPropagation();
    canvas()?.dispatchEvent(new Kind(event.type, event));
  };
  element.addEventListener("wheel", pass, { passive: false });
  element.addEventListener("contextmenu", pass);
  element.addEventListener("pointerdown", (event) => {
    if (event.buttons & MIDDLE_OR_RIGHT) pass(event);
  });
}

/** Whether a turn of the wheel scrolls something between the target and the player. @param {Element} target
 * @param {HTMLElement} player @param {WheelEvent} event */
function scrolls(target, player, { deltaY, ctrlKey }) {
  if (ctrlKey) return false; // zooms
  for (let at = /** @type {Element|null} */ (target); at && at !== player; at = at.parentElement) {
    const left = deltaY < 0 ? at.scrollTop : at.scrollHeight - at.clientHeight - at.scrollTop;
    if (left >= 1 && getComputedStyle(at).overflowY === "auto") return true;
  }
  return false;
}
