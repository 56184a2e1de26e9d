// @ts-check
/** Requests to a server that falls silent, in Node.js alone. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { ask } from "../../../web/player/takes/patience.mjs";

const PATIENCE_MS = 200;

/** Ask a real server that answers by `listener`. @template T
 * @param {import("node:http").RequestListener} listener @param {(server: any) => Promise<T>} use */
async function served(listener, use) {
  const http = createServer(listener).listen(0, "127.0.0.1");
  await new Promise((resolve) => http.once("listening", resolve));
  const { port } = /** @type {import("node:net").AddressInfo} */ (http.address());
  try {
    return await use({ request: (/** @type {string} */ path, /** @type {any} */ init) => fetch(`http://127.0.0.1:${port}${path}`, init) });
  } finally {
    http.closeAllConnections();
    http.close();
  }
}

const SILENT = { message: "The server has gone silent." };

test("a server that never answers is given up", () =>
  served(() => undefined, (server) => assert.rejects(ask(server, "/", {}, PATIENCE_MS), SILENT)));

test("a server that stops in the middle of its answer is given up", () =>
  served((_, answer) => answer.write("half"), (server) => assert.rejects(ask(server, "/", {}, PATIENCE_MS), SILENT)));

test("an answer that comes slowly, and longer than one's patience, is read whole", async () => {
  const slow = (/** @type {any} */ _, /** @type {any} */ answer) => {
    let pieces = 0;
    const timer = setInterval(() => {
      answer.write("piece ");
      if (++pieces === 8) {
        clearInterval(timer);
        answer.end();
      }
    }, PATIENCE_MS);
  };
  const answer = await served(slow, (server) => ask(server, "/", {}, 6 * PATIENCE_MS));
  assert.equal(await answer.text(), "piece ".repeat(8));
});

test("status, headers and an answer without a body stay as they are", async () => {
  const [gone, empty] = await served(
    (request, answer) => answer.writeHead(request.url === "/gone" ? 410 : 204, { "X-Take": "t" }).end(),
    (server) => Promise.all([ask(server, "/gone"), ask(server, "/empty")]),
  );
  assert.deepEqual([gone.status, gone.ok, empty.status, empty.headers.get("X-Take")], [410, false, 204, "t"]);
});
