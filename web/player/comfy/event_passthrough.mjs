// @ts-check
/** Wheel, middle and right button over a player belong to the canvas below it. */

const OWN = "textarea, input, select, video"; // these have menus and wheels of their own
const MIDDLE_OR_RIGHT = 4 | 2; // of `buttons`

/**
 * Hand those events on to the host's canvas, so that it zooms, pans and opens the node's menu as it
 * does over any other place. With Nodes 2.0 the host hands them on itself.
 * @param {HTMLElement} element @param {() => HTMLElement|undefined} canvas
 */
export function letThrough(element, canvas) {
  const pass = (/** @type {MouseEvent} */ event) => {
    const target = /** @type {Element} */ (event.target);
    if (element.closest("[data-node-id]") || document.fullscreenElement || target.closest(OWN)) return;
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
