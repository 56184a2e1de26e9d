// @ts-check
/** Lines of a Camera Path, and a drive written into them. Nodes and graphs are the host's, hence `any`. */
import { upstream, widgetOf, writeWidget } from "../graph.mjs";
import { startOf } from "./prompt_lines.mjs";
import { translate } from "../../words.mjs";

const CAMERA = "LongtakeCameraPath";

/**
 * Write a drive into the lines of a camera: it replaces all from its first time on.
 * @param {string} text @param {string[]} lines of the drive, in order of time
 */
export function withDrive(text, lines) {
  const start = startOf(lines[0] ?? "") ?? Infinity;
  const kept = [];
  let before = start > 0; // text before the first time starts at 0
  for (const old of text.split("\n")) {
    const at = startOf(old);
    if (at !== null) before = at < start;
    if (before) kept.push(old);
  }
  return [kept.join("\n").trimEnd(), ...lines].filter(Boolean).join("\n");
}

/**
 * Write a drive into the Camera Path upstream of a node.
 * @param {any} root @param {string} id of the node @param {string[]} lines
 * @returns {string|null} an error message, or null
 */
export function keepDrive(root, id, lines) {
  const found = upstream(root, id, (node) => node.comfyClass === CAMERA);
  if (!found) return translate("No Camera Path is connected to this preview. Save the drive and add its lines by hand.");
  const [moves, file] = ["moves", "pose_file"].map((name) => widgetOf(root, found.path, found.node, name));
  if (!moves) return translate("Another node provides the Camera Path's moves. Save the drive and add its lines there.");
  if (String(file?.value ?? "").trim()) return translate("The Camera Path reads a pose file, which lines cannot continue. Save the drive, or clear pose_file and drive again.");
  writeWidget(found.node, moves, withDrive(String(moves.value ?? ""), lines));
  return null;
}
