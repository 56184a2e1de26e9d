// @ts-check

/** Add the player's style sheet to the page, once. */
export function loadStyle() {
  const href = new URL("../player.css", import.meta.url).href;
  if (document.querySelector(`link[href="${href}"]`)) return;
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
}
