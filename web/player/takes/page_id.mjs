// @ts-check

/** Return a number that no other page has; crypto.randomUUID needs a page by https or of this machine. */
export function pageId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
