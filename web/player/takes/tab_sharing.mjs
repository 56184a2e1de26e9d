// @ts-check
/** @import { Library } from "./library.mjs" */

const CHANNEL = "longtake";

/**
 * The server tells only the tab that pressed Run; that tab tells the others.
 * @param {Library} library
 * @returns {(type: string, said: any) => void} to be called with every message from the server
 */
export function sharedWithTabs(library) {
  const channel = new BroadcastChannel(CHANNEL);
  channel.onmessage = ({ data }) => library.hear(data.type, data.said);
  return (type, said) => {
    library.hear(type, said);
    channel.postMessage({ type, said });
  };
}
