// @ts-check
/** What to do for a first video. Nodes are the host's objects, hence `any`. */
import { translate } from "../words.mjs";

const LEFT_OUT = [2, 4]; // LiteGraph's modes of a node that is muted or bypassed

/** Return the hint for an empty player. @param {any} node */
export function emptyHint(node) {
  if (LEFT_OUT.includes(node.mode)) return translate("This preview is muted or bypassed, so a run leaves it out. Switch the node on, then press Run.");
  const wired = node.inputs?.some((/** @type {any} */ input) => input.link != null);
  if (!wired) return translate("Connect frames from VAE Decode (Stream), then press Run.");
  return translate("Press Run. The video appears here while it is generated.");
}
