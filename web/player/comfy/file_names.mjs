// @ts-check
/** File names with tokens, such as %date:yyyy-MM-dd% or %Prompt Timeline.text%. */

/**
 * Let a node of ours send its file name as ComfyUI's own Save nodes do. ComfyUI replaces the tokens
 * for a list of its own nodes only, with a function that it gives to extensions.
 * @param {any} node @param {any} app @param {(app: any, text: string) => string} replace
 */
export function replaceTokens(node, app, replace) {
  const widget = node.widgets?.find((/** @type {any} */ each) => each.name === "filename_prefix");
  if (!widget || !String(node.comfyClass).startsWith("Longtake")) return;
  widget.serializeValue = () => replace(app, `${widget.value}`);
}
