// @ts-check
/** The keys that drive a camera, by their place on the keyboard, and the sticks of a gamepad. */

/** Names of keys as samplers/camera/keys.py knows them, by `KeyboardEvent.code`. @type {Record<string, string>} */
export const KEY_NAMES = {
  KeyW: "w", KeyA: "a", KeyS: "s", KeyD: "d", KeyQ: "q", KeyE: "e",
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down",
  ShiftLeft: "shift", ShiftRight: "shift",
};

const DEAD = 0.15; // a stick at rest is rarely at 0

/**
 * The pushes of all gamepads: right, up, forward, turn right, tilt up, each from -1 to 1. The left
 * stick moves, the right one looks, the triggers go up and down.
 * @param {readonly (Gamepad|null)[]} gamepads
 * @returns {number[]}
 */
export function sticksOf(gamepads) {
  const sticks = [0, 0, 0, 0, 0];
  for (const pad of gamepads) {
    if (!pad?.connected) continue;
    const [x = 0, y = 0, turn = 0, tilt = 0] = pad.axes;
    const [down, up] = [6, 7].map((button) => pad.buttons[button]?.value ?? 0);
    [x, up - down, -y, turn, -tilt].forEach((value, i) => { sticks[i] += live(value); });
  }
  return sticks.map((value) => Math.max(-1, Math.min(1, value)));
}

/** A stick's value beyond its dead middle, to 2 decimals. @param {number} value */
function live(value) {
  const beyond = Math.max(0, Math.abs(value) - DEAD) / (1 - DEAD);
  return (Math.sign(value) * Math.round(100 * beyond)) / 100;
}
