// @ts-check
/** @import { Take } from "../../takes/take.mjs" */
/** Lines of a Prompt Timeline that a fork behind it replaces. Nodes and graphs are the host's, hence `any`. */
import { allUpstream, executionId, upstream, widgetOf } from "../graph.mjs";
import { guidanceOf, promptOf, startOf } from "./prompt_lines.mjs";

const FORK = "LongtakeEditRollout";

/**
 * Return whether a fork between a Prompt Timeline and the take's node puts its own prompt or guidance
 * in a line's place: both hold from the fork's time to the end.
 * @param {any} root @param {string} id of the take's node @param {any} timeline @param {Take} take
 * @param {string} line
 */
export function isReplaced(root, id, timeline, take, line) {
  const isFork = (/** @type {any} */ node) => node.comfyClass === FORK;
  for (const fork of allUpstream(root, id, isFork)) {
    const isBehind = upstream(root, executionId(fork), (node) => node === timeline) !== null;
    if (isBehind && replaces(root, fork, take, line)) return true;
  }
  return false;
}

/** @param {any} root @param {{node: any, path: string[]}} fork @param {Take} take @param {string} line */
function replaces(root, { node, path }, take, line) {
  const valueOf = (/** @type {string} */ name) => widgetOf(root, path, node, name)?.value; // undefined: another node gives it
  const [action, at, prompt, guidance] = ["action", "at", "new_prompt", "new_guidance"].map(valueOf);
  if ((action ?? "fork") !== "fork") return false;
  if ((startOf(line) ?? 0) < startNear(take, at)) return false;
  return changesPrompt(prompt, promptOf(line)) || (guidanceOf(line) !== null && (guidance ?? 0) >= 0);
}

/** @param {any} prompt of a fork @param {string} own the line's */
function changesPrompt(prompt, own) {
  if (prompt === undefined) return true;
  const said = String(prompt).split(/\s+/).filter(Boolean).join(" ");
  return said !== "" && said !== own;
}

/** Return the start of the chunk nearest to a fork's time; 0 if the page cannot know the time.
 * @param {Take} take @param {any} at seconds; -1: the end of the fork's source */
function startNear({ chunks, frames, info }, at) {
  if (!(at >= 0)) return 0;
  const starts = [...chunks.map((chunk) => chunk.first_frame), frames].map((frame) => frame / info.fps);
  return starts.reduce((best, start) => (Math.abs(start - at) < Math.abs(best - at) ? start : best));
}
