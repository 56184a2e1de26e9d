// @ts-check
/** A picture of nodes of a workflow on the canvas, for a guide. */
/** @typedef {import("playwright-core").Page} Page */

const [LEFT, TOP, RIGHT, BOTTOM] = [100, 200, 700, 90]; // pixels that the page's own bars may cover
const MARGIN = 16;

/**
 * Return a picture of the nodes of some types at full size.
 * @param {Page} page @param {{canvas: object, types: string[]}} given
 */
export async function graphPicture(page, { canvas, types }) {
  const { x, y, width, height } = await page.evaluate(open, { canvas, types });
  await page.setViewportSize({ width: Math.ceil(width) + LEFT + RIGHT, height: Math.ceil(height) + TOP + BOTTOM });
  await page.waitForTimeout(1000); // the front end takes the new size
  const place = await page.evaluate(([left, top]) => {
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [left, top];
    app.canvas.deselectAll?.();
    app.canvas.setDirty(true, true);
    const rect = app.canvas.canvas.getBoundingClientRect();
    return [rect.x, rect.y];
  }, [LEFT - x, TOP - y]);
  await page.waitForTimeout(1000);
  const png = await page.screenshot({ clip: {
    x: place[0] + LEFT - MARGIN, y: place[1] + TOP - MARGIN, width: width + 2 * MARGIN, height: height + 2 * MARGIN,
  } });
  return png.toString("base64");
}

/** Open a workflow in the page, and return the box around some nodes. @param {any} given */
async function open({ canvas, types }) {
  await app.loadGraphData(canvas);
  const nodes = app.graph.nodes.filter((/** @type {any} */ node) => types.includes(node.comfyClass));
  const boxes = nodes.map((/** @type {any} */ node) => [...(node.boundingRect ?? node.getBounding())]);
  const [x, y] = [0, 1].map((axis) => Math.min(...boxes.map((box) => box[axis])));
  const [right, bottom] = [0, 1].map((axis) => Math.max(...boxes.map((box) => box[axis] + box[axis + 2])));
  return { x, y, width: right - x, height: bottom - y };
}
