// @ts-check
/** A worker that says when a picture is due, and writes pictures as JPEGs. The page could do both by itself, but while it
 * is hidden, as behind the window that a user shares, a browser lets it do either no more than once a second. */

/** @typedef {{everyMs: number}} Pace  how often a picture is due
 * @typedef {{bitmap: ImageBitmap, width: number, height: number, quality: number}} Picture  the size of the JPEG */

const worker = /** @type {any} */ (globalThis); // a DedicatedWorkerGlobalScope

worker.onmessage = (/** @type {MessageEvent<Pace|Picture>} */ { data }) => {
  if ("everyMs" in data) setInterval(() => worker.postMessage("due"), data.everyMs);
  else void write(data).then((jpeg) => worker.postMessage(jpeg), (error) => reportError(error));
};

/** @param {Picture} picture @returns {Promise<Blob>} */
function write({ bitmap, width, height, quality }) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return canvas.convertToBlob({ type: "image/jpeg", quality });
}
