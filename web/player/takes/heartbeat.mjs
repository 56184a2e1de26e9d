// @ts-check
/** @import { Library } from "./library.mjs" */

const PERIOD_MS = 1500;
const LIMIT_MS = 4000; // a server that holds Python's lock while it loads a model answers later than usual
const PATH = "/longtake/alive";

/**
 * Ask the server again and again whether it answers, while a run is followed. A server that hangs
 * keeps its websocket open, so that no event tells the page.
 * @param {Library} library
 */
export async function keepAsking(library) {
  if (library.expectsAnswers) library.setAnswering(await answers(library));
  library.askForQuiet();
  setTimeout(() => keepAsking(library), PERIOD_MS);
}

/** Whether the server answers in time; any answer will do. @param {Library} library */
function answers({ server }) {
  const signal = AbortSignal.timeout(LIMIT_MS);
  return server.request(PATH, { signal, cache: "no-store" }).then(() => true, () => false);
}
