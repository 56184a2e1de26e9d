// @ts-check
/** What a page says of a person who drives, in Node.js alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Driver } from "../../../web/player/drive/driver.mjs";
import { LastKeys } from "../../../web/player/drive/last_keys.mjs";
import { Latency } from "../../../web/player/drive/latency.mjs";
import { Take } from "../../../web/player/takes/take.mjs";
import { Transport } from "../../../web/player/takes/transport.mjs";

test("a key's time ends with the first picture of the chunk that read it", () => {
  const latency = new Latency();
  latency.sent(1, 100);
  latency.sent(2, 200);
  latency.read(1, 21);
  latency.shown(20, 900);
  assert.equal(latency.percentile(0.5), null);
  latency.shown(21, 1100);
  latency.read(5, 33);
  latency.shown(40, 3200);
  assert.deepEqual(latency.measured, [1000, 3000]);
  assert.deepEqual([latency.percentile(0.5), latency.percentile(0.95)], [1, 3]);
});

test("a press to drive from here is not lost while a message is on its way", async () => {
  /** @type {any[]} */
  const sent = [];
  /** @type {((answer: any) => void)[]} */
  const answers = [];
  const send = (/** @type {any} */ body) => { sent.push(body); return new Promise((resolve) => answers.push(resolve)); };
  let now = 0;
  const driver = new Driver("me", send, () => {}, () => (now += 1000));
  driver.start();
  const first = driver.tick(0);
  driver.start(true);
  answers[0]({ answer: "other" });
  await first;
  const second = driver.tick(0);
  answers[1]({ answer: "drives" });
  await second;
  void driver.tick(0);
  assert.deepEqual(sent.map(({ take_over }) => take_over), [false, true, false]);
  assert.equal(driver.answer?.answer, "drives");
});

/** Return a driver whose messages are all answered, these messages, and a function that sets its clock. */
function driving() {
  /** @type {any[]} */
  const sent = [];
  let now = 0;
  const send = async (/** @type {any} */ body) => { sent.push(body); return { answer: /** @type {const} */ ("drives") }; };
  const driver = new Driver("me", send, () => {}, () => now);
  driver.start();
  return { driver, sent, at: (/** @type {number} */ milliseconds) => { now = milliseconds; } };
}

test("each frame that comes to the screen is said at once, and otherwise a sign of life now and then", async () => {
  const { driver, sent, at } = driving();
  for (const [milliseconds, shown] of [[0, 4], [16, 4], [33, 5], [50, 5], [282, 5], [290, null]]) {
    at(Number(milliseconds));
    await driver.tick(shown);
  }
  assert.deepEqual(sent.map(({ shown }) => shown), [4, 5, null]);
  at(540);
  await driver.tick(null);
  assert.equal(sent.length, 4);
});

test("to begin to drive is no key whose picture is awaited", async () => {
  const { driver, sent } = driving();
  driver.setSticks([0, 0, 0, 0, 0]);
  await driver.tick(4);
  driver.latency.read(sent.length, 9);
  driver.latency.shown(9, 3000);
  assert.deepEqual(driver.latency.measured, []);
  driver.set("w", true, "keyboard");
  await driver.tick(9);
  driver.latency.read(sent.length, 13);
  driver.latency.shown(13, 400);
  assert.deepEqual(driver.latency.measured, [400]);
});

test("a drive that the server does not give is a failure, not an empty drive", async () => {
  const linesFrom = (/** @type {() => Promise<Response>} */ request) =>
    new Transport(/** @type {any} */ ({ request }), new Take("t")).driveLines();
  assert.deepEqual(await linesFrom(async () => Response.json({ lines: ["1: forward"] })), ["1: forward"]);
  await assert.rejects(linesFrom(async () => Response.json({ error: "It is gone." }, { status: 404 })), /^Error: It is gone\.$/);
  await assert.rejects(linesFrom(async () => new Response("<html>", { status: 502 })), /answered 502/);
  await assert.rejects(linesFrom(async () => { throw new TypeError("Failed to fetch"); }), /does not answer/);
});

test("keys of a drive that has ended do nothing until they are released, new ones for a second", () => {
  let now = 0;
  const keys = new LastKeys(() => now);
  keys.note("KeyW", true);
  keys.note("KeyA", true);
  keys.note("KeyA", false);
  keys.end();
  assert.ok(keys.includes("KeyW", true) && keys.includes("KeyS", true));
  now = 1500;
  assert.ok(keys.includes("KeyW", true) && keys.includes("KeyS", true), "still held");
  assert.ok(!keys.includes("KeyA", true), "it was released, and the second is over");
  assert.ok(keys.includes("KeyW", false), "its release belongs to the drive");
  assert.ok(!keys.includes("KeyW", true) && !keys.includes("KeyA", false));
  keys.forget();
  assert.ok(!keys.includes("KeyS", true));
});
