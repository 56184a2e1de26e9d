// @ts-check

/**
 * Where the player stands, in frames. Pure arithmetic: no timers, no DOM.
 *
 * `following` means that the viewer goes along with the run: play on as frames come, wait at the
 * end for the next. Whoever scrubs or steps looks at a place of their own until they go live again.
 */
export class Playhead {
  /** Position in frames; `frames` itself means that the last one has had its time. */
  position = 0;
  playing = true;
  following = true;
  loop = false;
  speed = 1;

  /** The frame to show. @param {number} frames how many exist */
  frame(frames) {
    return Math.max(0, Math.min(Math.floor(this.position + 1e-6), frames - 1));
  }

  /** Whether time moves it. @param {number} frames */
  running(frames) {
    return this.playing && this.position < frames;
  }

  /**
   * Let time pass.
   * @param {number} elapsedS @param {number} frames @param {number} fps
   * @param {boolean} growing whether more frames may come
   */
  advance(elapsedS, frames, fps, growing) {
    if (!this.running(frames)) return;
    this.position += elapsedS * fps * this.speed;
    if (this.position < frames) return;
    if (growing && (this.following || !this.loop)) this.position = frames; // wait here
    else if (this.loop) this.position %= frames;
    else this.#end(frames);
  }

  /** @param {number} frames */
  #end(frames) {
    this.position = frames;
    this.playing = false;
  }

  /** Look at one frame. @param {number} frame @param {number} frames */
  seek(frame, frames) {
    this.following = false;
    this.position = Math.max(0, Math.min(frame, frames - 1));
  }

  /** Stand `by` frames further. @param {number} by @param {number} frames */
  step(by, frames) {
    const here = this.frame(frames);
    this.playing = false;
    this.seek(here + by, frames);
  }

  /** Play, from the start again if it stands at the end of a finished take; or stand still.
   * @param {number} frames @param {boolean} growing */
  toggle(frames, growing) {
    this.playing = !this.playing;
    if (!this.playing) this.following = false;
    else if (!growing && this.frame(frames) >= frames - 1) this.position = 0;
  }

  /** Go along with the run from `frame` on. @param {number} frame */
  goLive(frame) {
    this.position = frame;
    this.playing = this.following = true;
  }
}
