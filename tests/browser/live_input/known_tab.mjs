// @ts-check
/** A tab with a picture that can be recognised: red on the left, blue on the right. */

export const TITLE = "Longtake known picture";

/** @param {import("playwright-core").BrowserContext} context */
export async function knownTab(context) {
  const tab = await context.newPage();
  await tab.setContent(`<title>${TITLE}</title><body style="margin: 0; height: 100vh;
    background: linear-gradient(to right, #f00 50%, #00f 50%)"></body>`);
  // A tab that does not change sends no pictures: let a dot of one pixel blink.
  await tab.evaluate(() => {
    const dot = document.body.appendChild(document.createElement("div"));
    setInterval(() => { dot.style.cssText = `width: 1px; height: 1px; background: ${Date.now() % 2 ? "#f00" : "#e00"}`; }, 30);
  });
  return tab;
}

/** The size of a JPEG, and the colours in the middle of its halves. @param {import("playwright-core").Page} page
 * @param {string|Buffer} jpeg */
export function colours(page, jpeg) {
  return page.evaluate(async (base64) => {
    const blob = await (await fetch(`data:image/jpeg;base64,${base64}`)).blob();
    const bitmap = await createImageBitmap(blob), { width, height } = bitmap;
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context?.drawImage(bitmap, 0, 0);
    const at = (/** @type {number} */ share) =>
      [...context?.getImageData(Math.floor(width * share), height >> 1, 1, 1).data ?? []];
    return { width, height, left: at(0.25), right: at(0.75) };
  }, Buffer.from(jpeg).toString("base64"));
}
