// @ts-check
/** @import { Player } from "../view/player.mjs" */
import { say } from "../words.mjs";

/** @typedef {{content: string, callback: () => void}} Item of the host's menu of a node */

/**
 * What can be done with a player from its node's menu; only what can be done now.
 * @param {Player} player @param {Player[]} all the players of this page
 * @returns {Item[]}
 */
export function menuItems(player, all) {
  const { screen } = player.reel;
  /** @type {Item[]} */
  const items = [];
  const add = (/** @type {string} */ content, /** @type {() => void} */ callback) => items.push({ content, callback });
  if (screen.shown >= 0) {
    add(say("Save this frame"), () => void player.saveFrame());
    add(say("Copy this frame"), () => void copyFrame(player));
  }
  const file = player.savedVideo();
  const url = file && player.reel.server.fileUrl(file);
  if (file && url) {
    add(say("Open the saved video"), () => void window.open(url, "_blank", "noopener"));
    add(say("Download the saved video"), () => download(url, file.filename));
  }
  const watched = all.filter(({ reel }) => reel.frames > 0);
  if (watched.length > 1) add(say("Play all previews from here together"), () => together(player, watched));
  return items;
}

/** @param {Player} player */
async function copyFrame({ reel }) {
  const png = reel.screen.png(); // a promise: browsers want the press and the writing to be one
  await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
}

/** @param {string} url @param {string} name */
function download(url, name) {
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
}

/** From the time that one of them stands at. @param {Player} leader @param {Player[]} players */
function together(leader, players) {
  const seconds = leader.reel.frame / leader.reel.fps;
  for (const { reel } of players) {
    reel.seek(Math.round(seconds * reel.fps));
    reel.play();
  }
}
