// @ts-check
/** The line under a loader that says whether the file fits. Nodes are the host's objects, hence `any`. */
import { element } from "../view/dom.mjs";
import { chain } from "./chain.mjs";
import { translate } from "../words.mjs";

/** The line's height on each loader, in canvas pixels. @type {Record<string, number>} */
const HEIGHTS = { LongtakeLoadModel: 84, LongtakeLoadDemoModel: 52, LongtakeLoadFlashVSR: 84 };
const WIDGET_TYPE = "LONGTAKE_FIT"; // the host's widget registry must not contain it
const LINE = "fit"; // the widget's name
const WIDTH = 260, MARGIN = 8; // canvas pixels
const INSET = 20; // what the classic canvas leaves free above and below an element, together

/**
 * Add the line to a new loader. It asks again when a widget changes or a workflow is opened.
 * @param {any} node @param {(path: string) => Promise<Response>} request
 */
export function addFitLine(node, request) {
  const height = HEIGHTS[node.comfyClass];
  if (!height) return;
  const line = element("div", { class: "longtake-fit", style: `min-height: ${height}px` });
  const widget = node.addDOMWidget(LINE, WIDGET_TYPE, line, {
    serialize: false, // not in the prompt
    hideInPanel: true, // an element can only be in one place
    getMinHeight: () => height + INSET,
    getMaxHeight: () => height + INSET,
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false; // not in the workflow
  const ask = asker(node, line, request);
  for (const each of node.widgets) if (each !== widget) chain(each, "callback", ask);
  const size = [Math.max(node.size[0], WIDTH), node.size[1] + height + INSET + MARGIN];
  const grow = () => node.setSize([Math.max(node.size[0], size[0]), Math.max(node.size[1], size[1])]);
  chain(node, "onConfigure", () => { grow(); ask(); }); // a saved workflow may know no line
  grow();
  ask();
}

/** Return a function that asks once for all changes of the moment. @param {any} node
 * @param {HTMLElement} line @param {(path: string) => Promise<Response>} request */
function asker(node, line, request) {
  let newest = 0;
  return () => {
    const mine = ++newest;
    queueMicrotask(async () => {
      if (mine !== newest) return;
      const { text, fits } = await answer(request, `/longtake/fit?${choice(node)}`);
      if (mine !== newest) return; // a newer question is on its way
      line.textContent = text;
      line.classList.toggle("longtake-fit-no", !fits);
    });
  };
}

/** @param {any} node */
function choice(node) {
  const values = (node.widgets ?? []).filter((/** @type {any} */ each) => each.name !== LINE && each.value !== undefined);
  const pairs = values.map((/** @type {any} */ each) => [each.name, String(each.value)]);
  return new URLSearchParams([["node", node.comfyClass], ...pairs]);
}

/** @param {(path: string) => Promise<Response>} request @param {string} path
 * @returns {Promise<{text: string, fits: boolean}>} */
async function answer(request, path) {
  try {
    const response = await request(path);
    if (response.ok) return await response.json();
  } catch {
    // the sentence below says it
  }
  return { text: translate("ComfyUI does not answer whether this model fits."), fits: false };
}
