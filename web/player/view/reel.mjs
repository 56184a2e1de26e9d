// @ts-check
/** @import { Place, Server } from "../types.mjs" */
/** @import { Session } from "../takes/library.mjs" */
import { Bitmaps } from "./bitmaps.mjs";
import { Playhead } from "./playhead.mjs";
import { Screen } from "./screen.mjs";

const BITMAPS = 28; // open decoded frames; the hover preview has 4 more
const DECODE_AHEAD = 8; // frames
const FETCH_AHEAD = 8; // chunks

/** @typedef {{head: Playhead, prefersRefined: boolean}} View */

/** A take and its playhead: draws the current frame, prepares the next ones, and moves. */
export class Reel {
  /** @type {Session|null} */
  session = null;
  /** Whether refined frames are shown where there are any. */
  prefersRefined = true;
  head = new Playhead();
  screen = new Screen();
  /** Whether the position is in frames that the server has dropped. */
  inGap = false;
  /** Why the last run failed, if the take does not say so. @type {string|null} */
  failure = null;
  #last = 0; // milliseconds; the last tick while playing, else 0
  /** @type {ImageBitmap|undefined} on the canvas */
  #drawn;
  /** @type {Session|null} whose changes are listened to, as the session's own are */
  #refined = null;
  #unlisten = () => {};
  #unlistenRefined = () => {};

  /** @param {Server} server @param {Place} place @param {() => void} onChange */
  constructor(server, place, onChange) {
    this.server = server;
    this.place = place;
    this.onChange = onChange;
    this.bitmaps = new Bitmaps(BITMAPS, (frame) => this.jpeg(frame), onChange);
  }

  get take() { return this.session?.take ?? null; }
  get frames() { return this.take?.frames ?? 0; }
  get length() { return this.take?.length ?? 0; }
  get fps() { return this.take?.info.fps || 16; }
  get frame() { return this.head.frame(this.frames); }
  /** Where the next run goes on, in seconds; null if nothing can say it. */
  get resumeAt() { return this.session?.workflowChanged ? null : this.take?.info.resume_at_s ?? null; }
  /** Whether the run, which has ended, left frames or chunks from which another one goes on. */
  get resumable() { return this.frames > 0 || this.take?.info.resume_at_s != null; }
  get growing() { return !!this.take?.growing; }
  /** The same frames, larger or finer, while they are preferred. */
  get refined() { return (this.prefersRefined && this.session?.refined) || null; }
  /** The take whose size, files and address are those of the picture. */
  get shownTake() { return this.refined?.take ?? this.take; }

  /** Load a take or none: where a player left it; else live if it is growing, else at its start.
   * @param {Session|null} session */
  load(session) {
    if (session === this.session) return;
    if (this.session) this.session.view = { head: this.head, prefersRefined: this.prefersRefined };
    this.#unlisten();
    this.session?.fetcher.release(this);
    this.#follow(null);
    this.bitmaps.clear();
    this.screen.clear();
    this.#last = 0;
    this.session = session;
    const { view } = session ?? {};
    const { loop, speed } = view?.head ?? this.head;
    this.head = Object.assign(new Playhead(), { loop, speed });
    this.#unlisten = session?.take.listen(this.onChange) ?? (() => {});
    if (this.growing && view?.head.following !== false) this.goLive();
    else if (view) Object.assign(this.head, view.head);
    else this.head.playing = this.frames === 0;
    this.prefersRefined = view?.prefersRefined ?? this.prefersRefined;
    this.onChange();
  }

  /** Return the bytes of a frame's picture, refined ones first, or null if they are not on this page.
   * @param {number} frame */
  jpeg(frame) {
    return jpegIn(this.refined, frame) ?? jpegIn(this.session, frame);
  }

  /** Whether the refined picture of a frame is on this page. @param {number} frame */
  hasRefined(frame) {
    return jpegIn(this.session?.refined ?? null, frame) !== null;
  }

  /** Prefer the refined frames, or those that they were made of. @param {boolean} prefers */
  preferRefined(prefers) {
    this.prefersRefined = prefers;
    if (!prefers) this.#refined?.fetcher.release(this);
    this.onChange();
  }

  /** Listen to the refined take, also while its frames are not preferred. @param {Session|null} refined */
  #follow(refined) {
    if (refined === this.#refined) return;
    this.#unlistenRefined();
    this.#refined?.fetcher.release(this);
    this.#refined = refined;
    this.#unlistenRefined = refined?.take.listen(this.onChange) ?? (() => {});
  }

  /**
   * Advance time, request chunks and draw; returns whether playback is running.
   * @param {number} now milliseconds @param {boolean} visible
   */
  tick(now, visible) {
    if (this.take) {
      this.#follow(this.session?.refined ?? null);
      this.#advance(now);
      this.fetch(this, this.frame, FETCH_AHEAD);
      if (visible && !this.screen.video) this.#draw();
    }
    const running = !this.screen.video && this.head.running(this.frames);
    this.#last = running && (visible || this.#last) ? now : 0;
    return running;
  }

  /** Advance the playhead, unless the bytes at its position are still being fetched.
   * @param {number} now */
  #advance(now) {
    const [take, fetcher] = [this.take, this.session?.fetcher];
    if (take?.resuming != null && this.head.following) this.head.position = this.frames; // skip what an earlier run showed
    const index = take?.indexAt(this.frame) ?? -1;
    const chunk = take?.chunks[index];
    if (!take || !chunk) return;
    const here = fetcher?.has(chunk.seq);
    this.inGap = !here && chunk.bytes === 0;
    if (this.inGap && this.head.playing) this.#skipGap(index);
    if (!this.#last || !here || this.screen.video) return;
    this.head.advance((now - this.#last) / 1000, take.frames, this.fps, take.growing);
  }

  /** Move behind a gap. @param {number} index of a dropped chunk */
  #skipGap(index) {
    const next = this.take?.chunks.slice(index).find((chunk) => chunk.bytes > 0);
    if (next) this.head.position = next.first_frame;
    else this.head.position = this.frames;
  }

  /** Fetch chunks soon, from a frame on. @param {object} owner who shows them: `this`, or who calls `release`
   * @param {number} frame @param {number} count of chunks */
  fetch(owner, frame, count) {
    for (const session of [this.session, this.refined]) {
      const index = Math.max(0, session?.take.indexAt(frame) ?? 0);
      const near = session?.take.chunks.slice(index, index + count) ?? [];
      session?.fetcher.request(owner, near.map((chunk) => chunk.seq));
    }
  }

  /** Forget what somebody wanted. @param {object} owner */
  release(owner) {
    for (const session of [this.session, this.#refined]) session?.fetcher.release(owner);
  }

  /** Draw the current frame, or, until it is decoded, the newest decoded frame before it. */
  #draw() {
    const { frame, screen, bitmaps, shownTake } = this;
    const ahead = this.head.playing ? Math.min(DECODE_AHEAD, this.frames - frame) : 1;
    bitmaps.request(Array.from({ length: Math.max(0, ahead) }, (_, step) => frame + step));
    const current = bitmaps.get(frame);
    if (!shownTake || (frame === screen.shown && (!current || current === this.#drawn))) return;
    const found = current ? frame : bitmaps.newest(screen.shown, frame);
    const bitmap = found < 0 ? undefined : bitmaps.get(found);
    if (!bitmap) return;
    screen.draw(found, bitmap, shownTake.info.width, shownTake.info.height);
    this.#drawn = bitmap;
  }

  /** Close a saved video and move the playhead.
   * @param {(head: Playhead) => void} action */
  move(action) {
    this.screen.closeVideo();
    action(this.head);
    this.onChange();
  }

  /** @param {{loop?: boolean, speed?: number}} options of playback */
  set(options) {
    Object.assign(this.head, options);
    this.onChange();
  }

  /** @param {number} frame */
  seek(frame) {
    this.move((head) => head.seek(frame, this.frames));
  }

  /** @param {number} by */
  step(by) {
    this.move((head) => head.step(by, this.frames));
  }

  /** Go to the start of the next chunk (1), or of the current or previous chunk (-1). @param {1|-1} by */
  stepChunk(by) {
    const { take, frame } = this;
    if (!take?.frames) return;
    const index = take.indexAt(frame);
    const target = by < 0 && frame > take.chunks[index].first_frame ? index : index + by;
    this.seek(take.chunks[Math.max(0, Math.min(target, take.chunks.length - 1))].first_frame);
  }

  toggle() {
    this.move((head) => head.toggle(this.frames, this.growing));
  }

  /** Play from the current position. */
  play() {
    this.move((head) => { head.playing = true; });
  }

  /** Follow the run from its newest chunk on. */
  goLive() {
    this.move((head) => head.goLive(this.take?.chunks.at(-1)?.first_frame ?? 0));
  }
}

/** Return the bytes of a frame in a take, or null if they are not on this page.
 * @param {Session|null} session @param {number} frame */
function jpegIn(session, frame) {
  const chunk = session?.take.chunks[session.take.indexAt(frame)];
  return (chunk && session?.fetcher.get(chunk.seq)?.jpegs[frame - chunk.first_frame]) ?? null;
}
