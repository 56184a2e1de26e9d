// @ts-check
/** @import { Place, SavedFile, Server } from "../types.mjs" */
/** @import { Session } from "../takes/library.mjs" */
import { DrivePad } from "../drive/drive_pad.mjs";
import { InputPad } from "../input/input_pad.mjs";
import { PlaybackBar } from "./playback_bar.mjs";
import { element } from "./dom.mjs";
import { playerKeys } from "./shortcuts.mjs";
import { RunControls } from "./run_controls.mjs";
import { Overlay } from "./overlay.mjs";
import { PictureRoom } from "./picture_room.mjs";
import { TakePicker } from "./take_picker.mjs";
import { Reel } from "./reel.mjs";
import { ScrubBar } from "./scrub_bar.mjs";
import { StatusStrip } from "../status/status_strip.mjs";
import { translate } from "../words.mjs";

/** A player on the page: a reel, and all controls around its picture. */
export class Player {
  #animationFrame = 0; // id of the requested animation frame; 0: none, -1: disposed
  #visible = true;
  #reportedFile = ""; // the saved file last passed to the page around the player
  #missingUrl = ""; // the saved file of an earlier run that no longer exists
  #resized = new ResizeObserver(() => this.refresh());
  #visibility = new IntersectionObserver((entries) => {
    this.#visible = entries[entries.length - 1].isIntersecting;
    this.refresh();
  });
  #onFullscreen = () => this.refresh();

  /** @param {Server} server @param {Place} place */
  constructor(server, place) {
    this.reel = new Reel(server, place, () => this.refresh());
    this.overlay = new Overlay(this.reel);
    this.picker = new TakePicker(this.reel);
    this.scrub = new ScrubBar(this.reel);
    this.playbackBar = new PlaybackBar(this);
    this.runControls = new RunControls(this.reel);
    this.drivePad = new DrivePad(this.reel);
    this.inputPad = new InputPad(this.reel);
    this.statusStrip = new StatusStrip(this.reel);
    this.stage = this.#stage();
    this.element = this.#assemble();
    this.pictureRoom = new PictureRoom(this, this.stage);
    this.#resized.observe(this.element);
    this.#visibility.observe(this.element);
    document.addEventListener("fullscreenchange", this.#onFullscreen);
    this.refresh();
  }

  /** @returns {HTMLElement} */
  #stage() {
    const { card, banner, state } = this.overlay;
    return element(
      "div",
      { class: "lt-stage", tabindex: 0, role: "group", "aria-label": translate("Picture; Space plays or pauses"),
        click: () => this.#clickPicture(), dblclick: () => this.toggleFullscreen() },
      this.reel.screen.element, card, banner, state,
    );
  }

  /** @returns {HTMLElement} */
  #assemble() {
    const { stage, scrub, playbackBar, runControls, drivePad, inputPad, statusStrip, picker } = this;
    const shortcuts = playerKeys(this);
    return element(
      "div",
      { class: "longtake-player", role: "region", "aria-label": translate("Streaming preview"),
        "data-longtake-player": true,
        keydown: (/** @type {KeyboardEvent} */ event) => drivePad.key(event, true) || shortcuts(event),
        keyup: (/** @type {KeyboardEvent} */ event) => drivePad.key(event, false),
        focusout: (/** @type {FocusEvent} */ event) => drivePad.focusOut(event) },
      picker.element, stage, scrub.element, playbackBar.element, playbackBar.fork.note, playbackBar.address.note,
      inputPad.element, drivePad.element, runControls.element, statusStrip.element,
    );
  }

  /** Offer takes to show. A new take is shown at once; otherwise the current take stays.
   * @param {Session[]} sessions newest last
   * @param {SavedFile|null} [saved] video of an earlier run, shown if there is no take */
  offer(sessions, saved = null) {
    const added = sessions.filter((session) => !this.picker.choices.includes(session));
    const current = sessions.find((session) => session === this.reel.session);
    this.show(added.at(-1) ?? current ?? sessions.at(-1) ?? null, sessions);
    if (!sessions.length && saved) this.#showSaved(saved);
  }

  /** Show one of several takes of this node. @param {Session|null} session
   * @param {Session[]} [choices] */
  show(session, choices = []) {
    this.picker.offer(choices);
    if (session !== this.reel.session) this.scrub.hover.hide();
    this.reel.load(session);
  }

  /** Say why the last run failed, where the take does not. @param {string|null} reason null: it did not fail */
  showFailure(reason) {
    this.reel.failure = reason;
    this.refresh();
  }

  /** @param {SavedFile} file */
  #showSaved(file) {
    const { screen, server } = this.reel;
    const url = server.fileUrl(file);
    if (!url || screen.video || url === this.#missingUrl) return;
    const onGone = () => {
      this.#missingUrl = url;
      this.reel.move(() => {}); // closes the video
    };
    screen.openVideo(url, file, { playing: false, onGone });
    this.refresh();
  }

  /** Free all resources; the player cannot be used again. */
  dispose() {
    this.show(null);
    this.runControls.dispose();
    this.drivePad.dispose();
    this.inputPad.dispose();
    this.#resized.disconnect();
    this.#visibility.disconnect();
    document.removeEventListener("fullscreenchange", this.#onFullscreen);
    cancelAnimationFrame(this.#animationFrame);
    this.#animationFrame = -1;
    this.element.remove();
  }

  /** Update all views before the next paint. */
  refresh() {
    if (this.#animationFrame === 0) this.#animationFrame = requestAnimationFrame((now) => this.#tick(now));
  }

  /** @param {number} now milliseconds */
  #tick(now) {
    this.#animationFrame = 0;
    const running = this.reel.tick(now, this.#visible);
    const { overlay, picker, scrub, playbackBar, runControls, drivePad, inputPad, statusStrip, pictureRoom } = this;
    drivePad.tick();
    const focused = this.element.contains(document.activeElement) ? document.activeElement : null;
    for (const view of [overlay, picker, scrub, playbackBar, runControls, drivePad, inputPad, statusStrip, pictureRoom]) view.update();
    if (focused) this.#keepFocus(focused);
    this.#reportFile();
    this.#updateDataset();
    if ((running && this.#visible) || drivePad.driver.on) this.refresh();
  }

  /** Move the focus to the picture if its control went, as at the run's end: keys would fall to the page around.
   * @param {Element} focused before the update */
  #keepFocus(focused) {
    const isGone = !focused.isConnected || focused.matches(":disabled, [hidden], [hidden] *");
    if (isGone) this.stage.focus({ preventScroll: true });
  }

  /** Pass a saved file to the page around the player, once. */
  #reportFile() {
    const { session, place } = this.reel;
    const file = this.savedVideo();
    const name = file ? `${session?.take.token} ${file.filename}` : "";
    if (name && name !== this.#reportedFile && session && file) place.keep?.(session, file);
    this.#reportedFile = name;
  }

  /** Write the state that tests and style sheets read. */
  #updateDataset() {
    const { take, head, frames, length, screen, bitmaps, inGap, refined } = this.reel;
    const { state = "empty", node_id: node = "" } = take?.info ?? {};
    const data = {
      frames, length, chunks: take?.chunks.length ?? 0, shown: screen.shown, state, node, take: take?.token ?? "", gap: inGap,
      connected: take?.connected ?? true, refined: refined?.take.frames ?? "",
      following: head.following, playing: head.playing,
      bitmaps: bitmaps.count + this.scrub.hover.bitmaps.count,
    };
    for (const [name, value] of Object.entries(data)) this.element.dataset[name] = String(value);
  }

  /** Play or pause; a saved video has its own controls. */
  #clickPicture() {
    if (this.reel.frames > 0 && !this.reel.screen.video) this.reel.toggle();
  }

  isFullscreen() {
    return document.fullscreenElement === this.element;
  }

  async toggleFullscreen() {
    if (this.isFullscreen()) await document.exitFullscreen();
    else if (document.fullscreenEnabled) await this.element.requestFullscreen();
  }

  saveFrame() {
    const { screen } = this.reel;
    if (screen.shown >= 0) screen.save(`longtake_frame_${String(screen.shown).padStart(6, "0")}.png`);
  }

  /** Return the run's saved video if browsers can play it, the refined one first, else null. */
  savedVideo() {
    const files = [this.reel.shownTake, this.reel.take].flatMap((take) => take?.info.files ?? []);
    return files.find((file) => file.filename.endsWith(".mp4")) ?? null;
  }

  /** Switch between the saved video and the frames. */
  toggleVideo() {
    const { head, screen, server } = this.reel;
    const file = this.savedVideo();
    const url = file && server.fileUrl(file);
    if (screen.video || !file || !url) screen.closeVideo();
    else {
      head.playing = head.following = false; // pause the frames meanwhile
      screen.openVideo(url, file);
    }
    this.refresh();
  }
}
