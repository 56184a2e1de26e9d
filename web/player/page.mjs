// @ts-check
/**
 * The player on a plain page, without ComfyUI; shows the takes of its server. The address may end in
 * the key of a run (`longtake run --watch`). Without a key the page is a client of its own.
 */
import { keepAsking } from "./takes/heartbeat.mjs";
import { CHUNK_EVENT, Library, TAKE_EVENT } from "./takes/library.mjs";
import { pageId } from "./takes/page_id.mjs";
import { Player } from "./view/player.mjs";
import { ofBrowser, ofTab } from "./storage.mjs";
import { loadStyle } from "./view/style.mjs";
import { shareWithTabs } from "./takes/tab_sharing.mjs";
import { loadWords, translate } from "./words.mjs";

const RETRY_MS = 1000;
const PROMPTS = "longtake.prompts"; // in the browser's storage

document.documentElement.lang = await loadWords(navigator.language); // how screen readers speak
const key = location.hash.slice(1);
const clientId = key || (ofTab.getItem("clientId") ?? pageId());
ofTab.setItem("clientId", clientId); // a reload finds its takes again

/** The address of one of the server's paths: a proxy may have the page and all of them below a path of its own.
 * @param {string} path from the server's root, with its / */
const addressOf = (path) => new URL(`.${path}`, document.baseURI);
/** @type {import("./types.mjs").Server} */
const server = {
  request: (path, init) => fetch(addressOf(path), init),
  fileUrl: (file) => addressOf(`/view?${new URLSearchParams({ ...file, clientId })}`).href,
  url: (path) => addressOf(path).href,
};
const library = new Library(server);
/** The server sends to every page with the key, but to one page only without a key. */
const receive = key ? library.receive.bind(library) : shareWithTabs(library);
const hint = key ? translate("Frames appear here while they are generated.")
  : translate("This address lacks its key: copy the whole address from the terminal, with what follows #.");
const lostHint = () => translate("No connection to the server. Run the same command again to resume.");
/** The prompts on keys belong to this browser: there is no workflow to keep them in. */
const prepared = {
  read: () => ofBrowser.getItem(PROMPTS) ?? "",
  write: (/** @type {string} */ text) => ofBrowser.setItem(PROMPTS, text),
};
const place = { emptyHint: () => hint, lostHint, keepLine: null, keepDrive: null, prepared, fork: null, restart: null };
const player = new Player(server, place);
const showNewest = () => player.offer([...library.newest(null).values()]);

function connect() {
  const address = addressOf(`/ws?${new URLSearchParams({ clientId })}`);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address);
  socket.onopen = () => library.attach(clientId);
  socket.onmessage = ({ data }) => {
    const { type, data: message } = JSON.parse(data);
    if (type === TAKE_EVENT || type === CHUNK_EVENT) receive(type, message);
  };
  socket.onclose = () => {
    library.setConnected(false);
    setTimeout(connect, RETRY_MS);
  };
}

loadStyle();
document.querySelector("main")?.append(player.element);
library.listen(showNewest);
connect();
keepAsking(library);
