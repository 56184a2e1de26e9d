// @ts-check
/** @import { Library } from "./library.mjs" */

/** The tabs of one server: a proxy may have several servers under one origin, each below a path of its own. */
const CHANNEL = `longtake ${new URL(".", import.meta.url).pathname}`;

/**
 * Share server messages between the tabs of a server, which only sends them to the tab that pressed Run.
 * @param {Library} library
 * @returns {(type: string, message: any) => void} call this with every message from the server
 */
export function shareWithTabs(library) {
  const channel = new BroadcastChannel(CHANNEL);
  channel.onmessage = ({ data }) => library.receive(data.type, data.message, "tab");
  return (type, message) => {
    library.receive(type, message);
    channel.postMessage({ type, message });
  };
}
