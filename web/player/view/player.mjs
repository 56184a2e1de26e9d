// @ts-check
/** @import { Place, SavedFile, Server } from "../types.mjs" */
/** @import { Session } from "../takes/library.mjs" */
import { Deck } from "./playback_bar.mjs";
import { element } from "./dom.mjs";
import { playerKeys } from "./shortcuts.mjs";
import { LiveControls } from "./run_controls.mjs";
import { Overlay } from "./overlay.mjs";
import { TakePicker } from "./take_picker.mjs";
import { Reel } from "./reel.mjs";
import { ScrubBar } from "./scrub_bar.mjs";
import { Strip } from "./status_strip.mjs";
import { say } from "../words.mjs";

/** One player on the page: a reel, and everything around its picture. */
export class Player {
  #asked = 0; // the animation frame asked for; -1 once disposed
  #visible = true;
  #kept = ""; // the saved file that the page around was told of
  #gone = ""; // one of an earlier run that is no longer there
  #resized = new ResizeObserver(() => this.refresh());
  #seen = new IntersectionObserver((entries) => {
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
    this.deck = new Deck(this);
    this.live = new LiveControls(this.reel);
    this.strip = new Strip(this.reel);
    this.element = this.#assemble();
    this.#resized.observe(this.element);
    this.#seen.observe(this.element);
    document.addEventListener("fullscreenchange", this.#onFullscreen);
    this.refresh();
  }

  /** @returns {HTMLElement} */
  #assemble() {
    const { overlay, scrub, deck, live, strip, picker } = this;
    const stage = element(
      "div",
      { class: "lt-stage", tabindex: 0, role: "group", "aria-label": say("Picture; Space plays or pauses"),
        click: () => this.#press(), dblclick: () => this.toggleFullscreen() },
      this.reel.screen.element, overlay.card, overlay.banner, overlay.state,
    );
    return element(
      "div",
      { class: "longtake-player", role: "region", "aria-label": say("Streaming preview"),
        "data-longtake-player": true, keydown: playerKeys(this) },
      picker.element, stage, scrub.element, deck.element, deck.fork.said, live.element, strip.element,
    );
  }

  /** Show the newest of these takes; the one looked at stays as long as no other comes.
   * @param {Session[]} sessions the newest last
   * @param {SavedFile|null} [saved] by an earlier run, shown where the server knows no take */
  offer(sessions, saved = null) {
    const come = sessions.filter((session) => !this.picker.choices.includes(session));
    const stays = sessions.find((session) => session === this.reel.session);
    this.show(come.at(-1) ?? stays ?? sessions.at(-1) ?? null, sessions);
    if (!sessions.length && saved) this.#recall(saved);
  }

  /** Show a take out of several that belong here. @param {Session|null} session
   * @param {Session[]} [choices] */
  show(session, choices = []) {
    this.picker.offer(choices);
    this.scrub.hover.hide();
    this.reel.load(session);
  }

  /** @param {SavedFile} file */
  #recall(file) {
    const { screen, server } = this.reel;
    const url = server.fileUrl(file);
    if (!url || screen.video || url === this.#gone) return;
    const onGone = () => {
      this.#gone = url;
      this.reel.move(() => {}); // closes it
    };
    screen.openVideo(url, file, { playing: false, onGone });
    this.refresh();
  }

  /** Free everything; the player is not used again. */
  dispose() {
    this.show(null);
    this.live.dispose();
    this.#resized.disconnect();
    this.#seen.disconnect();
    document.removeEventListener("fullscreenchange", this.#onFullscreen);
    cancelAnimationFrame(this.#asked);
    this.#asked = -1;
    this.element.remove();
  }

  /** Look at everything again before the next paint. */
  refresh() {
    if (this.#asked === 0) this.#asked = requestAnimationFrame((now) => this.#tick(now));
  }

  /** @param {number} now milliseconds */
  #tick(now) {
    this.#asked = 0;
    const running = this.reel.tick(now, this.#visible);
    const { overlay, picker, scrub, deck, live, strip } = this;
    for (const view of [overlay, picker, scrub, deck, live, strip]) view.update();
    this.#keep();
    this.#report();
    if (running && this.#visible) this.refresh();
  }

  /** Tell the page around of a saved file, once. */
  #keep() {
    const { session, place } = this.reel;
    const file = this.savedVideo();
    const name = file ? `${session?.take.token} ${file.filename}` : "";
    if (name && name !== this.#kept && session && file) place.keep?.(session, file);
    this.#kept = name;
  }

  /** What tests and style sheets read. */
  #report() {
    const { take, head, frames, length, screen, bitmaps, inGap } = this.reel;
    const { state = "empty", node_id: node = "" } = take?.info ?? {};
    const said = {
      frames, length, chunks: take?.chunks.length ?? 0, shown: screen.shown, state, node, take: take?.token ?? "", gap: inGap,
      following: head.following, playing: head.playing,
      bitmaps: bitmaps.count + this.scrub.hover.bitmaps.count,
    };
    for (const [name, value] of Object.entries(said)) this.element.dataset[name] = String(value);
  }

  /** A press on the picture; a saved video has its own controls. */
  #press() {
    if (this.reel.frames > 0 && !this.reel.screen.video) this.reel.toggle();
  }

  isFullscreen() {
    return document.fullscreenElement === this.element;
  }

  async toggleFullscreen() {
    if (this.isFullscreen()) await document.exitFullscreen();
    else await this.element.requestFullscreen();
  }

  saveFrame() {
    const { screen } = this.reel;
    if (screen.shown >= 0) screen.save(`longtake_frame_${String(screen.shown).padStart(6, "0")}.png`);
  }

  /** The video file that this run has written, if it is one that browsers play. */
  savedVideo() {
    return this.reel.take?.info.files.find((file) => file.filename.endsWith(".mp4")) ?? null;
  }

  /** The saved video in place of the frames, or the frames again. */
  toggleVideo() {
    const { head, screen, server } = this.reel;
    const file = this.savedVideo();
    const url = file && server.fileUrl(file);
    if (screen.video || !file || !url) screen.closeVideo();
    else {
      head.playing = head.following = false; // the frames stand still meanwhile
      screen.openVideo(url, file);
    }
    this.refresh();
  }
}
