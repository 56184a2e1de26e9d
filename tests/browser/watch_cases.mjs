// @ts-check
/** The page of `longtake run --watch`, with a run of the demo model. */
import { test } from "node:test";
import { PlayerPage, URL, onPage, useBrowser } from "./harness.mjs";

useBrowser();

test("the run appears at the address that the command prints, and so does its saved video", onPage(async (player) => {
  await player.until(({ shown }) => Number(shown) >= 0);
  await player.until(({ state, frames }) => state === "done" && frames === "21");
  await player.button(/saved video/).click();
  await player.page.waitForFunction(() => (document.querySelector("video")?.readyState ?? 0) >= 2);
}));

test("another page that lacks the address' key is shown nothing", onPage(async (player) => {
  await player.until(({ take }) => take !== ""); // by the key
  const browser = /** @type {import("playwright-core").Browser} */ (player.page.context().browser());
  const other = new PlayerPage(await browser.newPage());
  await other.page.goto(URL.replace(/#.*/, ""));
  await other.root.getByText("No video yet").waitFor();
  await other.page.close();
}));
