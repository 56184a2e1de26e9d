// @ts-check
/** Gives the sampler upstream of a preview another seed. Nodes and graphs are the host's, hence `any`. */
import { upstream, widgetOf, writeWidget } from "./graph.mjs";

const SAMPLER = "LongtakeSampler";
const SEEDS = 2 ** 32;

/**
 * Write a random seed into the nearest sampler upstream; undo brings the old seed back.
 * @param {any} root @param {string} id execution id of the preview
 * @returns {boolean} false if there is no sampler, or another node provides its seed
 */
export function renewSeed(root, id) {
  const found = upstream(root, id, (node) => node.comfyClass === SAMPLER);
  const widget = found && widgetOf(root, found.path, found.node, "seed");
  if (!widget) return false;
  writeWidget(found.node, widget, Math.floor(Math.random() * SEEDS));
  return true;
}
