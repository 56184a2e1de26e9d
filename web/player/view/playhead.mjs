// @ts-check

/**
 * The player's position in frames. Pure arithmetic: no timers, no DOM.
 *
 * `following` means that playback follows the run: play new frames as they arrive, and wait at the
 * end for more. Scrubbing or stepping ends this until the viewer goes live again.
 */
export class Playhead {
  /** Position in frames; a position of `frames` means that the last frame has been played. */
  position = 0;
  playing = true;
  following = true;
  loop = false;
  speed = 1;

  /** Return the frame to show. @param {number} frames number of generated frames */
  frame(frames) {
    return Math.max(0, Math.min(Math.floor(this.position + 1e-6), frames - 1));
  }

  /** Return whether time moves the position. @param {number} frames */
  running(frames) {
    return this.playing && this.position < frames;
  }

  /**
   * Advance the position by elapsed time.
   * @param {number} elapsedS @param {number} frames @param {number} fps
   * @param {boolean} growing whether more frames may come
   */
  advance(elapsedS, frames, fps, growing) {
    if (!this.running(frames)) return;
    this.position += elapsedS * fps * this.speed;
    if (this.position < frames) return;
    if (growing && (this.following || !this.loop)) this.position = frames; // wait for more frames
    else if (this.loop) this.position %= frames;
    else this.#end(frames);
  }

  /** @param {number} frames */
  #end(frames) {
    this.position = frames;
    this.playing = false;
  }

  /** Go to a frame. @param {number} frame @param {number} frames */
  seek(frame, frames) {
    this.following = false;
    this.position = Math.max(0, Math.min(frame, frames - 1));
  }

  /** Move by some frames and pause. @param {number} by @param {number} frames */
  step(by, frames) {
    const here = this.frame(frames);
    this.playing = false;
    this.seek(here + by, frames);
  }

  /** Play or pause. At the end of a finished take, play from the start.
   * @param {number} frames @param {boolean} growing */
  toggle(frames, growing) {
    this.playing = !this.playing;
    if (!this.playing) this.following = false;
    else if (!growing && this.frame(frames) >= frames - 1) this.position = 0;
  }

  /** Follow the run from `frame` on. @param {number} frame */
  goLive(frame) {
    this.position = frame;
    this.playing = this.following = true;
  }
}
