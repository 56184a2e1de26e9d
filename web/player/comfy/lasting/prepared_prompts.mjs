// @ts-check
/** The prompts on keys of a preview. They belong to its node, so that the workflow's file has them. */

const PROPERTY = "longtake_prompts"; // the host saves and copies the properties of a node

/** Return where the prompts of a preview are kept. @param {any} node of the host */
export function preparedAt(node) {
  return {
    read: () => String(node.properties[PROPERTY] ?? ""),
    write: (/** @type {string} */ text) => {
      node.properties[PROPERTY] = text;
    },
  };
}
