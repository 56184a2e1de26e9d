// @ts-check
/** @import { Reel } from "../view/reel.mjs" */
/** @import { DriveInfo } from "../types.mjs" */
import { element, textButton } from "../view/dom.mjs";
import { translate } from "../words.mjs";

/** Keeps a drive in the workflow's Camera Path, or saves it as lines for one. */
export class DriveLines {
  /** What the last press of a button led to, for the take that is shown. */
  outcome = "";
  #take = "";

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    this.keep = textButton(translate("Keep drive"), () => this.#keep());
    this.keep.title = translate("Write the drive into the Camera Path, so that the workflow reproduces this shot");
    this.save = textButton(translate("Save drive"), () => this.#save());
    this.save.title = translate("Download the drive as lines for a Camera Path, or for longtake run --camera");
  }

  /** @param {DriveInfo|null} state */
  update(state) {
    const token = this.reel.take?.token ?? "";
    if (this.#take !== token) this.outcome = "";
    this.#take = token;
    this.save.hidden = !state || state.start_s === null;
    this.keep.hidden = this.save.hidden || !this.reel.place.keepDrive;
  }

  async #keep() {
    const { session, place } = this.reel;
    const lines = await this.#lines();
    if (!session || !place.keepDrive || !lines) return;
    this.#say(place.keepDrive(session, lines) ?? translate("Kept in Camera Path"));
  }

  async #save() {
    const lines = await this.#lines();
    if (!lines?.length) return;
    const url = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/plain" }));
    element("a", { href: url, download: "longtake_drive.txt" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000); // the download has started by then
  }

  /** Fetch the drive, or say why it cannot be fetched. @returns {Promise<string[]|null>} */
  async #lines() {
    try {
      return (await this.reel.session?.transport.driveLines()) ?? null;
    } catch (error) {
      this.#say(error instanceof Error ? error.message : String(error));
      return null;
    }
  }

  /** @param {string} outcome */
  #say(outcome) {
    this.outcome = outcome;
    this.reel.onChange();
  }
}
