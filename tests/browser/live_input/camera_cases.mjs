// @ts-check
/** A run of the demo that redraws the browser's camera, in the page of `longtake run --watch`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, onPage, useBrowser } from "../harness.mjs";

useBrowser("--use-fake-device-for-media-stream");

/** @param {import("../harness.mjs").PlayerPage} player */
const pad = (player) => player.root.locator("[aria-label='Live input']");

test("a camera that is not allowed has a sentence, and the run waits", onPage(async (player) => {
  await eventually(() => pad(player).isVisible(), true);
  await pad(player).getByRole("button", { name: "Use the camera" }).click();
  const said = /did not allow it; allow it beside this page's address/;
  await eventually(() => pad(player).getByText(said).count(), 1);
}));

test("a page that is not secure has a sentence", onPage(async (player) => {
  await eventually(() => pad(player).isVisible(), true);
  await pad(player).getByRole("button", { name: "Use the camera" }).click();
  await eventually(() => pad(player).getByText(/open this page by https or as localhost/).count(), 1);
}, { prepare: (page) => page.addInitScript(() => Object.defineProperty(navigator, "mediaDevices", { value: undefined })) }));

test("the run gets the camera's pictures until it needs no more", onPage(async (player) => {
  player.limitMs = 240_000;
  await eventually(() => pad(player).isVisible(), true);
  await pad(player).getByRole("button", { name: "Use the camera" }).click();
  await eventually(() => pad(player).getByRole("button", { name: "Stop the camera" }).count(), 1);
  await player.until(({ state }) => state === "done");
  await eventually(() => pad(player).isVisible(), false);
  assert.ok(Number(await pad(player).getAttribute("data-sent")) >= 10);
}, { permissions: ["camera"] }));
