// @ts-check
/** @import { Player } from "./player.mjs" */
import { element, iconButton, rename } from "./dom.mjs";
import { ForkButton } from "./fork_button.mjs";
import { LiveAddress } from "./live_address.mjs";
import { time } from "./format.mjs";
import { translate } from "../words.mjs";

const SPEEDS = [0.25, 0.5, 1, 2, 4];

/** The buttons that move through the generated frames. They never affect the run. */
export class PlaybackBar {
  /** @param {Player} player */
  constructor(player) {
    this.player = player;
    this.play = iconButton("play", translate("Play"), () => player.reel.toggle());
    this.back = iconButton("back", translate("Previous frame (Left)"), () => player.reel.step(-1));
    this.forward = iconButton("forward", translate("Next frame (Right)"), () => player.reel.step(1));
    /** @type {HTMLButtonElement} */
    this.live = element(
      "button", { type: "button", class: "lt-live", click: () => player.reel.goLive() },
      element("span", { class: "lt-dot", "aria-hidden": "true" }), translate("LIVE"),
    );
    this.time = element("span", { class: "lt-time" });
    this.speed = speedSelect(player);
    this.loop = iconButton("loop", translate("Loop (O)"), () => player.reel.set({ loop: !player.reel.head.loop }));
    this.save = iconButton("camera", translate("Save this frame as PNG (S)"), () => player.saveFrame());
    this.video = iconButton("film", translate("Play the saved video"), () => player.toggleVideo());
    this.refined = iconButton("sparkle", "", () => player.reel.preferRefined(!player.reel.prefersRefined));
    this.fork = new ForkButton(player.reel);
    this.address = new LiveAddress(player.reel);
    this.full = iconButton("full", translate("Fullscreen (F)"), () => player.toggleFullscreen());
    const left = [this.back, this.play, this.forward, this.live, this.time];
    const right = [this.refined, this.speed, this.loop, this.save, this.fork.button, this.address.button, this.video, this.full];
    /** @type {HTMLElement} */
    this.element = element(
      "div", { class: "lt-playback-bar", role: "toolbar", "aria-label": translate("Playback") },
      element("div", { class: "lt-group" }, ...left),
      element("div", { class: "lt-group lt-right" }, ...right),
    );
  }

  update() {
    const { take, head, frames, frame, fps, screen } = this.player.reel;
    const empty = frames === 0;
    for (const button of [this.play, this.back, this.forward, this.save]) button.disabled = empty;
    const ended = !!take && !take.growing && !head.playing && frame >= frames - 1;
    if (head.playing && !empty) rename(this.play, "pause", translate("Pause playback (Space)"));
    else rename(this.play, ended ? "replay" : "play", ended ? translate("Play again (Space)") : translate("Play (Space)"));
    this.live.hidden = !take?.live;
    this.live.setAttribute("aria-pressed", String(head.following));
    const behind = Math.max(0, frames - 1 - frame) / fps;
    this.live.classList.toggle("lt-behind", behind > 2);
    this.live.title = translate("Follow the run (L). Now {seconds} s behind the newest frame.", { seconds: behind.toFixed(1) });
    this.time.textContent = `${time((ended ? frames : frame) / fps)} / ${time((take?.length ?? 0) / fps)}`;
    this.time.title = translate("Frame {frame} of {frames} at {fps} frames per second", { frame, frames, fps });
    if (this.speed.value !== String(head.speed)) this.speed.value = String(head.speed);
    this.loop.setAttribute("aria-pressed", String(head.loop));
    this.#updateRefined();
    const video = this.player.savedVideo();
    this.video.hidden = !video;
    const open = screen.video !== null;
    this.video.setAttribute("aria-pressed", String(open));
    if (video) this.video.title = open ? translate("Back to the frames") : translate("Play the saved {file}", { file: video.filename });
    this.full.hidden = !document.fullscreenEnabled; // on an iPhone, or in a frame of another page
    const full = this.player.isFullscreen();
    this.full.setAttribute("aria-pressed", String(full));
    this.fork.update();
    this.address.update();
  }

  #updateRefined() {
    const { reel } = this.player;
    const refined = reel.session?.refined?.take;
    this.refined.hidden = !refined;
    if (!refined) return;
    this.refined.setAttribute("aria-pressed", String(reel.prefersRefined));
    this.refined.classList.toggle("lt-waiting", reel.prefersRefined && !reel.hasRefined(reel.frame));
    const seconds = (refined.frames / reel.fps).toFixed(1);
    const { state, message } = refined.info;
    rename(this.refined, "sparkle", state === "error"
      ? translate("Refined frames end at {seconds} s: {reason}", { seconds, reason: message ?? "" })
      : translate("Refined frames: {seconds} s so far (R)", { seconds }));
  }
}

/** @param {Player} player @returns {HTMLSelectElement} */
function speedSelect(player) {
  const options = SPEEDS.map((speed) => element("option", { value: speed }, `${speed}×`));
  const change = (/** @type {{target: HTMLSelectElement}} */ { target }) => {
    player.reel.set({ speed: Number(target.value) });
  };
  return element(
    "select", { class: "lt-speed", "aria-label": translate("Playback speed"), title: translate("Playback speed"), change },
    ...options,
  );
}
