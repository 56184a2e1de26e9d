// @ts-check
/** Lines of a Prompt Timeline, as timed_lines.py reads them: `SECONDS: prompt`,
 * `HOURS:MINUTES:SECONDS: prompt`, and `SECONDS (guidance 2, lora 0.5, over 1): prompt`. */
import { narrow } from "../../prompts/signs.mjs";

const TIMED = /^\s*([-+]?(?:\d|\.\d)[\d.:e+]*)\s*(?:s|secs?|seconds?)?\s*(?:\([^()]*\)\s*)?:/i;
const GUIDED = /\(.*?guidance\s+([\d.e+-]+)/i;
const SCALED = /\(.*?lora\s+[\d.e+-]+/i;
const TIME = /^(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)$/;

/** Return a match of what a line has before its text, and of the time alone; null without a time.
 * @param {string} line */
function beginOf(line) {
  return TIMED.exec(narrow(line));
}

/** Return a line's start in seconds, or null if it continues the line above. @param {string} line */
export function startOf(line) {
  const match = TIME.exec(beginOf(line)?.[1] ?? "");
  return match ? 3600 * Number(match[1] ?? 0) + 60 * Number(match[2] ?? 0) + Number(match[3]) : null;
}

/** Return a line's prompt. @param {string} line */
export function promptOf(line) {
  return line.slice(beginOf(line)?.[0].length ?? 0).trim();
}

/** Return the guidance that a line sets, as it is written there, or null. @param {string} line */
export function guidanceOf(line) {
  return GUIDED.exec(beginOf(line)?.[0] ?? "")?.[1] ?? null;
}

/** Return whether a line sets a number that another one does not. @param {string} line @param {string} other */
function setsMore(line, other) {
  const scales = (/** @type {string} */ each) => SCALED.test(beginOf(each)?.[0] ?? "");
  return (guidanceOf(line) !== null && guidanceOf(other) === null) || (scales(line) && !scales(other));
}

/** Return whether a timeline contains a line. @param {string} text @param {string} line */
export function hasLine(text, line) {
  return text.split("\n").includes(line);
}

/**
 * Add a line to a timeline; it replaces a prompt that starts at the same time. A guidance or LoRA
 * strength there stays in force unless the new line sets another one: of two lines the lower prompt counts.
 * @param {string} text @param {string} line
 */
export function withLine(text, line) {
  const start = startOf(line);
  const kept = [];
  let dropping = start === 0; // text before the first time starts at 0
  for (const old of text.split("\n")) {
    const at = startOf(old);
    if (at !== null) dropping = at === start && !setsMore(old, line);
    if (!dropping) kept.push(old);
  }
  const before = kept.join("\n").trimEnd();
  return before ? `${before}\n${line}` : line;
}
