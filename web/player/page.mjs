// @ts-check
/**
 * The player on a plain page, without ComfyUI: it shows the takes of the server it is from. An
 * address may end in the key of a run (`longtake run --watch`), else the page is its own client.
 */
import { CHUNK_EVENT, Library, TAKE_EVENT } from "./takes/library.mjs";
import { Player } from "./view/player.mjs";
import { loadStyle } from "./view/style.mjs";
import { sharedWithTabs } from "./takes/tab_sharing.mjs";
import { learn, say } from "./words.mjs";

await learn(navigator.language);
const key = location.hash.slice(1);
const clientId = key || (sessionStorage.getItem("clientId") ?? crypto.randomUUID());
sessionStorage.setItem("clientId", clientId); // so that a reload finds its takes again

/** @type {import("./types.mjs").Server} */
const server = {
  request: (path, init) => fetch(path, init),
  fileUrl: (file) => `/view?${new URLSearchParams({ ...file, clientId })}`,
};
const library = new Library(server);
const hear = sharedWithTabs(library);
const hint = key ? say("Its frames appear here as they are made.") : say("Start a run; its frames appear here.");
const place = { emptyHint: () => hint, keepLine: null, fork: null };
const player = new Player(server, place);
const showNewest = () => player.offer([...library.newest(null).values()]);

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/ws?clientId=${clientId}`);
  socket.onopen = () => library.attach(clientId);
  socket.onmessage = ({ data }) => {
    const { type, data: said } = JSON.parse(data);
    if (type === TAKE_EVENT || type === CHUNK_EVENT) hear(type, said);
  };
  socket.onclose = () => setTimeout(connect, 1000);
}

loadStyle();
document.querySelector("main")?.append(player.element);
library.listen(showNewest);
connect();
