// @ts-check
/** @import { Server } from "../types.mjs" */

export const PATIENCE_MS = 30_000;
const WITHOUT_BODY = [204, 205, 304];

/**
 * Send a request and read the whole answer; fail when no byte has come for `patienceMs`. A connection whose
 * other end has gone, as after sleep or in another network, would say nothing for a quarter of an hour.
 * @param {Server} server @param {string} path @param {RequestInit} [init]
 * @returns {Promise<Response>}
 */
export async function ask(server, path, init = {}, patienceMs = PATIENCE_MS) {
  const patience = new AbortController();
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => patience.abort(new Error("The server has gone silent.")), patienceMs);
  };
  wait();
  try {
    const answer = await server.request(path, { ...init, signal: patience.signal });
    const { status, statusText, headers } = answer;
    const bytes = await whole(answer, wait);
    return new Response(WITHOUT_BODY.includes(status) ? null : bytes, { status, statusText, headers });
  } finally {
    clearTimeout(timer);
  }
}

/** Read an answer piece by piece. @param {Response} answer @param {() => void} onPiece */
async function whole(answer, onPiece) {
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const pieces = [];
  const reader = answer.body?.getReader();
  for (let next = await reader?.read(); next && !next.done; next = await reader?.read()) {
    pieces.push(next.value);
    onPiece();
  }
  return new Blob(pieces);
}
