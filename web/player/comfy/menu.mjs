// @ts-check
/** @import { Player } from "../view/player.mjs" */
import { translate } from "../words.mjs";

/** @typedef {{content: string, callback: () => void}} Item of the host's menu of a node */
/** @typedef {(text: string) => void} Tell shows the user an error message */

/**
 * Return the menu items of a player's node that are available now.
 * @param {Player} player @param {Player[]} all players of this page @param {Tell} tell
 * @returns {Item[]}
 */
export function menuItems(player, all, tell) {
  const { screen } = player.reel;
  /** @type {Item[]} */
  const items = [];
  const add = (/** @type {string} */ content, /** @type {() => void} */ callback) => items.push({ content, callback });
  if (screen.shown >= 0) {
    add(translate("Save this frame"), () => void player.saveFrame());
    if (canCopy()) add(translate("Copy this frame"), () => void copyFrame(player, tell));
  }
  const file = player.savedVideo();
  const url = file && player.reel.server.fileUrl(file);
  if (file && url) {
    add(translate("Open the saved video"), () => void window.open(url, "_blank", "noopener"));
    add(translate("Download the saved video"), () => download(url, file.filename));
  }
  const { session, place } = player.reel;
  if (session && place.restart) add(translate("Start afresh with a new seed"), () => player.runControls.restart.run(true));
  if (place.prepared) add(translate("Prompts on keys"), () => player.runControls.keys.toggle());
  const watched = all.filter(({ reel }) => reel.frames > 0);
  if (watched.length > 1) add(translate("Play all previews from here together"), () => playTogether(player, watched));
  return items;
}

/** Whether the browser lets this page copy pictures: only one with https or on this machine. */
function canCopy() {
  return typeof ClipboardItem === "function" && typeof navigator.clipboard?.write === "function";
}

/** @param {Player} player @param {Tell} tell */
async function copyFrame({ reel }, tell) {
  const png = reel.screen.png(); // pass the promise: browsers require the write within the click
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
  } catch (error) { // without permission, or when the page is not in front
    console.warn("longtake: the clipboard refused a frame", error);
    tell(translate("The browser did not let this page copy the frame. Allow it the clipboard, or use Save this frame."));
  }
}

/** @param {string} url @param {string} name */
function download(url, name) {
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
}

/** Play all players from the leader's time. @param {Player} leader @param {Player[]} players */
function playTogether(leader, players) {
  const seconds = leader.reel.frame / leader.reel.fps;
  for (const { reel } of players) {
    reel.seek(Math.round(seconds * reel.fps));
    reel.play();
  }
}
