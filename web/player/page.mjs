// @ts-check
/** The player on a plain page, without ComfyUI: it shows the newest take of the server it is from. */
import { CHUNK_EVENT, Library, TAKE_EVENT } from "./library.mjs";
import { Player } from "./player.mjs";
import { loadStyle } from "./style.mjs";
import { sharedWithTabs } from "./tabs.mjs";

const clientId = sessionStorage.getItem("clientId") ?? crypto.randomUUID();
sessionStorage.setItem("clientId", clientId); // so that a reload finds its takes again

/** @type {import("./types.mjs").Server} */
const server = {
  request: (path, init) => fetch(path, init),
  fileUrl: (file) => `/view?${new URLSearchParams({ ...file })}`,
};
const library = new Library(server);
const hear = sharedWithTabs(library);
const place = { emptyHint: () => "Start a run; its frames appear here.", keepLine: null };
const player = new Player(server, place);
const showNewest = () => player.show(library.newest(null).at(-1) ?? null);

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
