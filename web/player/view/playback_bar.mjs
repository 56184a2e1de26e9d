// @ts-check
/** @import { Player } from "./player.mjs" */
import { element, iconButton, rename } from "./dom.mjs";
import { ForkButton } from "./fork_button.mjs";
import { time } from "./format.mjs";
import { say } from "../words.mjs";

const SPEEDS = [0.25, 0.5, 1, 2, 4];

/** The buttons that move through what exists. They never touch the run. */
export class Deck {
  /** @param {Player} player */
  constructor(player) {
    this.player = player;
    this.play = iconButton("play", say("Play"), () => player.reel.toggle());
    this.back = iconButton("back", say("One frame back (Left)"), () => player.reel.step(-1));
    this.forward = iconButton("forward", say("One frame on (Right)"), () => player.reel.step(1));
    /** @type {HTMLButtonElement} */
    this.live = element(
      "button", { type: "button", class: "lt-live", click: () => player.reel.goLive() },
      element("span", { class: "lt-dot", "aria-hidden": "true" }), say("LIVE"),
    );
    this.time = element("span", { class: "lt-time" });
    this.speed = speedSelect(player);
    this.loop = iconButton("loop", say("Loop (O)"), () => player.reel.set({ loop: !player.reel.head.loop }));
    this.save = iconButton("camera", say("Save this frame as PNG (S)"), () => player.saveFrame());
    this.video = iconButton("film", say("Play the saved video"), () => player.toggleVideo());
    this.fork = new ForkButton(player.reel);
    this.full = iconButton("full", say("Fullscreen (F)"), () => player.toggleFullscreen());
    const left = [this.back, this.play, this.forward, this.live, this.time];
    const right = [this.speed, this.loop, this.save, this.fork.button, this.video, this.full];
    /** @type {HTMLElement} */
    this.element = element(
      "div", { class: "lt-deck", role: "toolbar", "aria-label": say("Playback") },
      element("div", { class: "lt-group" }, ...left),
      element("div", { class: "lt-group lt-right" }, ...right),
    );
  }

  update() {
    const { take, head, frames, frame, fps, screen } = this.player.reel;
    const none = frames === 0;
    for (const each of [this.play, this.back, this.forward, this.save]) each.disabled = none;
    const ended = !!take && !take.growing && !head.playing && frame >= frames - 1;
    if (head.playing && !none) rename(this.play, "pause", say("Pause playback (Space)"));
    else rename(this.play, ended ? "replay" : "play", ended ? say("Play again (Space)") : say("Play (Space)"));
    this.live.hidden = !take?.growing;
    this.live.setAttribute("aria-pressed", String(head.following));
    const behind = Math.max(0, frames - 1 - frame) / fps;
    this.live.classList.toggle("lt-behind", behind > 2);
    this.live.title = say("Go along with the run (L); now {seconds} s behind its newest frame", { seconds: behind.toFixed(1) });
    this.time.textContent = `${time((ended ? frames : frame) / fps)} / ${time((take?.length ?? 0) / fps)}`;
    this.time.title = say("Frame {frame} of {frames} at {fps} frames per second", { frame, frames, fps });
    this.loop.setAttribute("aria-pressed", String(head.loop));
    const video = this.player.savedVideo();
    this.video.hidden = !video;
    const open = screen.video !== null;
    this.video.setAttribute("aria-pressed", String(open));
    if (video) this.video.title = open ? say("Back to the frames") : say("Play the saved {file}", { file: video.filename });
    const full = this.player.isFullscreen();
    this.full.setAttribute("aria-pressed", String(full));
    this.fork.update();
  }
}

/** @param {Player} player @returns {HTMLSelectElement} */
function speedSelect(player) {
  const options = SPEEDS.map((speed) => {
    const option = element("option", { value: speed }, `${speed}×`);
    option.selected = speed === 1;
    return option;
  });
  const change = (/** @type {{target: HTMLSelectElement}} */ { target }) => {
    player.reel.set({ speed: Number(target.value) });
  };
  return element(
    "select", { class: "lt-speed", "aria-label": say("Playback speed"), title: say("Playback speed"), change },
    ...options,
  );
}
