// @ts-check
/** Prompts that are written before they are needed, and the keys that send them. */

const MOST = 9; // the keys 1 to 9

/** Return the prompts of a text, one a line; the first is on key 1. @param {string} text */
export function promptsIn(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean).slice(0, MOST);
}

/** Return the number of a key from 1 to 9, or null for another key. In the upper row the key's place counts: some
 * keyboards, as in France, type other signs there, and Shift may be held to drive faster.
 * @param {Pick<KeyboardEvent, "key"|"code">} event */
export function numberOf({ key, code }) {
  const digit = /^Digit([1-9])$/.exec(code)?.[1] ?? /^[1-9]$/.exec(key)?.[0];
  return digit === undefined ? null : Number(digit);
}
