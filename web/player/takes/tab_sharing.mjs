// @ts-check
/** @import { Library } from "./library.mjs" */

const CHANNEL = "longtake";

/**
 * Share server messages between tabs: the server only sends them to the tab that pressed Run.
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
