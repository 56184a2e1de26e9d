// @ts-check
/**
 * Which preview a node is, wherever it goes: its id changes when the user encloses it in a subgraph, and its
 * workflow's id changes at Save As. Nodes are the host's objects, hence `any`.
 */
import { pageId } from "../../takes/page_id.mjs";

const PROPERTY = "longtake_preview"; // the host saves and copies the properties of a node

/** Give a new node an identity; a node from a file, or one that is copied, brings its own. @param {any} node */
export function identify(node) {
  node.properties[PROPERTY] = pageId();
}

/** @param {any} node @returns {string} */
export function identityOf(node) {
  return node.properties[PROPERTY];
}
