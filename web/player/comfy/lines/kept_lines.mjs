// @ts-check
/** @import { Session } from "../../types.mjs" */
/** Live edits kept as lines of the Prompt Timeline. Nodes and graphs are the host's, hence `any`. */
import { upstream, widgetOf, writeWidget } from "../graph.mjs";
import { guidanceOf, hasLine, promptOf, startOf, withLine } from "./prompt_lines.mjs";
import { isReplaced } from "./replaced_lines.mjs";
import { translate } from "../../words.mjs";

const TIMELINE = "LongtakePromptTimeline";

/**
 * Write an edit into the Prompt Timeline upstream of the take's node.
 * @param {any} root @param {string} id of the node @param {Session} session @param {string} line
 * @returns {string|null} an error message, or null
 */
export function keepLine(root, id, { take }, line) {
  const found = upstream(root, id, (node) => node.comfyClass === TIMELINE);
  if (!found) return translate("No Prompt Timeline is connected to this preview. Add this line by hand: {line}", { line });
  if (isReplaced(root, id, found.node, take, line)) return forkAgainText(line);
  const widget = widgetOf(root, found.path, found.node, "text");
  if (!widget) return translate("Another node provides the Prompt Timeline's text. Add this line there: {line}", { line });
  writeWidget(found.node, widget, withLine(String(widget.value ?? ""), line));
  return null;
}

/** Return whether the Prompt Timeline contains an edit's line, and no fork replaces it. @param {any} root
 * @param {string} id of the take's node @param {Session} session @param {string} line */
export function isKept(root, id, { take }, line) {
  const found = upstream(root, id, (node) => node.comfyClass === TIMELINE);
  const widget = found && widgetOf(root, found.path, found.node, "text");
  return hasLine(String(widget?.value ?? ""), line) && !isReplaced(root, id, found?.node, take, line);
}

/** @param {string} line */
function forkAgainText(line) {
  const [at, prompt, guidance] = [startOf(line) ?? 0, promptOf(line), guidanceOf(line)];
  if (guidance === null) {
    return translate("A fork replaces this line of the Prompt Timeline. Fork again at {at} s, with this prompt: {prompt}", { at, prompt });
  }
  return translate("A fork replaces this line of the Prompt Timeline. Fork again at {at} s, with guidance {guidance} and this prompt: {prompt}",
    { at, guidance, prompt });
}
