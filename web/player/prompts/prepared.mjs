// @ts-check
/** Prompts that are written before they are needed, and the keys that send them. */

import { narrow } from "./signs.mjs";

const MOST = 9; // the keys 1 to 9
const BRACKETS = /^\(([^()]*)\)\s*(:?)\s*/;
const OPTION = /^\s*(guidance|lora|over)\s+(-?\d+(?:\.\d*)?)\s*s?\s*$/i; // as in nodes/conditioning/timeline.py

/** @typedef {{text: string, over?: number, guidance?: number, lora?: number}} Change what the run is asked for */

/** Return the prompts of a text, one a line; the first is on key 1. Runs of blanks become one, as in the run, so that a
 * button knows its prompt again. @param {string} text */
export function promptsIn(text) {
  return text.split("\n").map((line) => line.trim().replace(/\s+/g, " ")).filter(Boolean).slice(0, MOST);
}

/** Return what a line asks for: a prompt, and what brackets before it say, as in a line of the Prompt Timeline without
 * its time: `(guidance 3, over 2): a cat`. Null if the brackets cannot be read, or lack their colon. @param {string} line
 * @returns {Change|null} */
export function changeOf(line) {
  const brackets = BRACKETS.exec(narrow(line));
  if (!brackets) return { text: line };
  const [begin, inside, colon] = brackets;
  const options = optionsIn(inside);
  if (!options && !colon) return { text: line }; // words in brackets are words
  const text = line.slice(begin.length);
  return options && colon && text ? { ...options, text } : null;
}

/** Return what brackets say; null if it cannot be read. @param {string} inside @returns {Omit<Change, "text">|null} */
function optionsIn(inside) {
  /** @type {Omit<Change, "text">} */
  const options = {};
  for (const part of inside.split(",")) {
    const option = OPTION.exec(part);
    const name = /** @type {"over"|"guidance"|"lora"|undefined} */ (option?.[1].toLowerCase());
    if (!option || !name || name in options) return null;
    options[name] = Number(option[2]);
  }
  return options;
}

/** Return the number of a key from 1 to 9, or null for another key. In the upper row the key's place counts: some
 * keyboards, as in France, type other signs there, and Shift may be held to drive faster.
 * @param {Pick<KeyboardEvent, "key"|"code">} event */
export function numberOf({ key, code }) {
  const digit = /^Digit([1-9])$/.exec(code)?.[1] ?? /^[1-9]$/.exec(key)?.[0];
  return digit === undefined ? null : Number(digit);
}
