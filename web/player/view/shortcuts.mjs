// @ts-check
/** @import { Player } from "./player.mjs" */

const TYPING = "input, textarea, select, video";
const PRESSING = "button, a";
const REPEATED = ["arrowleft", "arrowright", "arrowup", "arrowdown", "pageup", "pagedown"]; // go on while they are held

/**
 * Return the player's key handler for any focus within it. Keys that it uses do not propagate.
 * @param {Player} player
 * @returns {(event: KeyboardEvent) => void}
 */
export function playerKeys(player) {
  return (event) => {
    const target = /** @type {Element} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest(TYPING)) return;
    if (target.closest(PRESSING) && (event.key === " " || event.key === "Enter")) {
      return event.stopPropagation(); // activates the button, and nothing in the page around
    }
    const action = player.runControls.keys.actionOf(event) ?? (player.reel.frames ? actionOf(player, event) : null);
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat || REPEATED.includes(event.key.toLowerCase())) action();
  };
}

/** Return the letter of a key, or its name. Where the keyboard types another script, such as Korean or Cyrillic, the key's
 * place says which Latin letter it has. @param {KeyboardEvent} event */
function nameOf({ key, code }) {
  const isForeign = /^\p{L}$/u.test(key) && !/\p{Script=Latin}/u.test(key);
  return (isForeign ? /^Key([A-Z])$/.exec(code)?.[1] ?? key : key).toLowerCase();
}

/** @param {Player} player @param {KeyboardEvent} event @returns {(() => void)|null} */
function actionOf(player, event) {
  const { reel } = player;
  const step = event.shiftKey ? Math.round(reel.fps) : 1;
  const onSlider = /** @type {Element} */ (event.target).closest("[role=slider]"); // which all four arrows move
  switch (nameOf(event)) {
    case " ": return () => reel.toggle();
    case "arrowleft": return () => reel.step(-step);
    case "arrowright": return () => reel.step(step);
    case "arrowdown": return onSlider && (() => reel.step(-step));
    case "arrowup": return onSlider && (() => reel.step(step));
    case "pageup": return () => reel.stepChunk(1);
    case "pagedown": return () => reel.stepChunk(-1);
    case "home": return () => reel.seek(0);
    case "end": return () => reel.seek(reel.frames - 1);
    case "l": return () => { if (reel.take?.live) reel.goLive(); }; // as its button, which an ended run has not
    case "o": return () => reel.set({ loop: !reel.head.loop });
    case "s": return () => player.saveFrame();
    case "r": return () => reel.preferRefined(!reel.prefersRefined);
    case "f": return () => void player.toggleFullscreen();
    default: return null;
  }
}
