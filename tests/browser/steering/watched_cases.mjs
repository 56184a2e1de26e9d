// @ts-check
/** A run of the demo with an untrained action embedding, driven in the page of `longtake run --watch`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, onPage, useBrowser } from "../harness.mjs";

useBrowser();

test("arrow keys drive the run, and the time from key to picture is shown", onPage(async (player) => {
  player.limitMs = 120_000;
  await player.until(({ shown }) => Number(shown) >= 0);
  await player.button(/^Drive$/).click();
  const pad = player.root.locator(".lt-drive");
  const made = () => pad.getAttribute("data-made");
  for (const [key, motion] of [["ArrowLeft", "pan left 22.5"], ["ArrowRight", "pan right 22.5"], ["ArrowLeft", "pan left 22.5"]]) {
    await player.page.keyboard.down(key);
    await eventually(made, motion);
    await player.page.keyboard.up(key);
    await eventually(made, "still");
  }
  await eventually(async () => Number(await pad.getAttribute("data-latencies")) >= 4, true);
  const text = await pad.getByText(/From key to picture/).innerText();
  assert.match(text, /[\d.]+ s \(p50\), [\d.]+ s \(p95\)/);
  console.log(text);
  if (process.env.LONGTAKE_SHOT) await player.page.screenshot({ path: process.env.LONGTAKE_SHOT });
  await player.root.getByRole("button", { name: "Stop", exact: true }).click();
  await player.until(({ state }) => state === "stopped" || state === "done");
}));
