// @ts-check
/** A run of the demo that redraws a tab of the browser, in the page of `longtake run --watch`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually, onPage, useBrowser } from "../harness.mjs";
import { TITLE, knownTab } from "./known_tab.mjs";

useBrowser(`--auto-select-tab-capture-source-by-title=${TITLE}`);

test("the run gets the tab's pictures until it needs no more", onPage(async (player) => {
  player.limitMs = 240_000;
  await knownTab(player.page.context());
  await player.page.bringToFront();
  const pad = player.root.locator("[aria-label='Live input']");
  await eventually(() => pad.isVisible(), true);
  await pad.getByRole("button", { name: "Share a screen or tab" }).click();
  await eventually(() => pad.getByRole("button", { name: "Stop sharing" }).count(), 1);
  await player.until(({ state }) => state === "done");
  await eventually(() => pad.isVisible(), false);
  assert.ok(Number(await pad.getAttribute("data-sent")) >= 10);
}));
