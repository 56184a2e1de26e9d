// @ts-check
/** Lines of a Prompt Timeline: `SECONDS: prompt` or `MINUTES:SECONDS: prompt`. */

const TIMED = /^\s*(?:(\d+):)?(\d+(?:\.\d*)?)\s*s?\s*:/i;

/** Return a line's start in seconds, or null if it continues the line above. @param {string} line */
function startOf(line) {
  const match = TIMED.exec(line);
  return match ? 60 * Number(match[1] ?? 0) + Number(match[2]) : null;
}

/**
 * Add a line to a timeline; it replaces a prompt that starts at the same time.
 * @param {string} text @param {string} line
 */
export function withLine(text, line) {
  const start = startOf(line);
  const kept = [];
  let dropping = start === 0; // text before the first time starts at 0
  for (const old of text.split("\n")) {
    const at = startOf(old);
    if (at !== null) dropping = at === start;
    if (!dropping) kept.push(old);
  }
  const before = kept.join("\n").trimEnd();
  return before ? `${before}\n${line}` : line;
}
