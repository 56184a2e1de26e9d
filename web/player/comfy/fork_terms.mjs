// @ts-check
/** @import { Session, TakeInfo } from "../types.mjs" */
import { time } from "../view/format.mjs";
import { translate } from "../words.mjs";
import { executionId, firstUpstream, upstream } from "./graph.mjs";

const DECODE = "LongtakeVAEDecode";
const JOINS = ["LongtakeSpliceRollouts", "LongtakeCompareRollouts"]; // their times are not those of one shot

/** Return the decoder of a preview's shot, or null. Graphs and nodes are the host's, hence `any`. @param {any} root
 * @param {string} id execution id of the preview */
export function decoderOf(root, id) {
  return firstUpstream(root, id, isDecoder)?.node ?? null;
}

/** Return the execution id of the decoder whose shot a preview's edits and drives change; of the preview itself
 * without a decoder. Of joined shots this is the first one: nodes/frames/joined.py. @param {any} root
 * @param {string} id execution id of the preview */
export function shotOf(root, id) {
  const decoder = firstUpstream(root, id, isDecoder);
  return decoder ? executionId(decoder) : id;
}

/** Return why a preview shows no single shot that could be forked; null if it does. @param {any} root
 * @param {string} id execution id of the preview */
export function jointObstacle(root, id) {
  const joint = upstream(root, id, (node) => JOINS.includes(node.comfyClass), isDecoder);
  return joint && translate("Several shots are joined before this preview. Connect a preview to the frames of the shot alone, and fork it there.");
}

/** @param {any} node */
function isDecoder(node) {
  return node.comfyClass === DECODE;
}

/**
 * Return why a fork at `seconds` would not start from what is seen; null if it does.
 * @param {Session} session @param {number} seconds
 * @param {(line: string) => boolean} isKept whether the workflow contains an edit
 */
export function forkObstacle({ take, driveKept }, seconds, isKept) {
  const { edits, drive } = take.info;
  const earlier = edits.filter(({ status, start_s: at }) => status === "applied" && (at ?? 0) < seconds);
  const seeded = earlier.find(({ seed }) => seed != null);
  if (seeded) {
    return translate("The edit at {at} has a seed of its own. Fork there first, with its prompt and seed {seed}.",
      { at: time(seeded.start_s ?? 0), seed: seeded.seed ?? 0 });
  }
  const numbered = earlier.find(({ line, strength, level }) => line === null || (strength ?? level) != null);
  if (numbered) {
    return translate("The edit at {at} changed a number that forks do not take over. Save the shot with Save Rollout, and fork it after Load Rollout.",
      { at: time(numbered.start_s ?? 0) });
  }
  const driven = drive?.start_s ?? null;
  if (driven !== null && driven < seconds && !driveKept) {
    return translate("Press Keep drive first, so that the fork starts from what you see.");
  }
  const line = earlier.find((edit) => edit.line !== null && !isKept(edit.line))?.line;
  return line ? translate("Press Keep edit for “{line}” first, so that the fork starts from what you see.", { line }) : null;
}

/** Return the widgets of a fork at `seconds`, with the seed that waits for one. @param {TakeInfo} info
 * @param {number} seconds @returns {Record<string, string|number>} */
export function forkWidgets({ fork_seed: seed }, seconds) {
  return { action: "fork", at: seconds, ...(seed == null ? {} : { new_seed: seed }) };
}
