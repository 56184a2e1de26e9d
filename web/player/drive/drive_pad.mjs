// @ts-check
/** @import { Reel } from "../view/reel.mjs" */
/** @import { Session } from "../types.mjs" */
import { element, textButton } from "../view/dom.mjs";
import { duration } from "../view/format.mjs";
import { translate } from "../words.mjs";
import { HAND_OVER_MS } from "../takes/hand_over.mjs";
import { pageId } from "../takes/page_id.mjs";
import { DriveLines } from "./drive_lines.mjs";
import { Driver } from "./driver.mjs";
import { KEY_NAMES, sticksOf } from "./keys.mjs";
import { LastKeys } from "./last_keys.mjs";
import { TouchPad } from "./touch_pad.mjs";

const TYPING = "input, textarea, select, video";
const KEYBOARD = "keyboard";

/** The wheel: a button to drive, keys on the screen, what is held and made, and how long a key takes. */
export class DrivePad {
  /** @type {Session|null} the take that is driven */
  #session = null;
  #lastKeys = new LastKeys();

  /** @param {Reel} reel */
  constructor(reel) {
    this.reel = reel;
    this.driver = new Driver(pageId(), (body) => this.#send(body), () => reel.onChange());
    this.button = textButton(translate("Drive"), () => this.toggle());
    this.button.title = translate("Move the camera with W A S D, Q E and the arrow keys, a gamepad or the buttons here");
    this.takeOver = textButton(translate("Drive from here"), () => this.#takeOver(), "lt-primary");
    this.lines = new DriveLines(reel);
    /** @type {HTMLSelectElement} */
    this.mode = element("select", { "aria-label": translate("When keys act"), change: () => this.#setMode() },
      element("option", { value: "hold" }, translate("Held keys")), element("option", { value: "re-plan" }, translate("Held keys, re-plan unseen chunks")),
      element("option", { value: "history" }, translate("Every press, one chunk later")));
    this.touch = new TouchPad(() => this.driver);
    this.status = element("p", { class: "lt-drive-status", role: "status" });
    this.facts = element("p", { class: "lt-note" });
    const row = element("div", { class: "lt-run" }, this.button, this.takeOver, this.mode, this.lines.keep, this.lines.save);
    /** @type {HTMLElement} */
    this.element = element("div", { class: "lt-drive", role: "group", "aria-label": translate("Camera") },
      row, this.touch.element, this.status, this.facts);
    this.onBlur = () => this.#release();
    window.addEventListener("blur", this.onBlur);
  }

  /** Press or release a key; returns whether it drives. @param {KeyboardEvent} event @param {boolean} down */
  key(event, down) {
    const key = KEY_NAMES[event.code];
    const typing = /** @type {Element} */ (event.target).closest(TYPING);
    if (!down && event.key === "Meta") this.#release(KEYBOARD); // macOS tells of no release while Command is held
    if (!key || (down && (typing || event.ctrlKey || event.metaKey || event.altKey))) return false;
    if (this.driver.on) this.#steer(event.code, key, down);
    else if (!this.#lastKeys.includes(event.code, down)) return false;
    event.preventDefault(); // the page does not scroll
    event.stopPropagation();
    return true;
  }

  /** @param {string} code of the key on the keyboard @param {string} key of the drive @param {boolean} down */
  #steer(code, key, down) {
    this.#lastKeys.note(code, down);
    if (!down || this.reel.take?.connected) this.driver.set(key, down, KEYBOARD);
  }

  /** Release what the keyboard holds when the focus leaves the player. @param {FocusEvent} event */
  focusOut(event) {
    const next = /** @type {Node|null} */ (event.relatedTarget);
    if (!next || !/** @type {Element} */ (event.currentTarget).contains(next)) this.#release();
  }

  /** Let go of what is held, where no release of a key will be told. @param {string} [source] none: all */
  #release(source) {
    this.driver.releaseAll(source);
    this.#lastKeys.forget();
  }

  toggle() {
    if (this.driver.on) return this.driver.stop();
    this.lines.outcome = "";
    this.#session = this.reel.session;
    this.driver.start();
    this.reel.goLive();
    this.#focusPicture();
  }

  #takeOver() {
    this.driver.start(true);
    this.#focusPicture();
  }

  /** Send what is held and measure; call this on every animation frame. */
  tick() {
    this.#takeWheel();
    const { take, head, screen } = this.reel;
    const state = take?.info.drive;
    if (this.driver.on && (this.reel.session !== this.#session || !take?.growing)) {
      this.driver.stop();
      this.#lastKeys.end();
    }
    if (!this.driver.on) return;
    if (!take?.connected) return this.driver.releaseAll(); // the server forgets what a silent page held
    if (state && state.frame !== null && state.driver === this.driver.id) this.driver.latency.read(state.number, state.frame);
    if (screen.shown >= 0 && !screen.video) this.driver.latency.shown(screen.shown, performance.now());
    this.driver.setSticks(sticksOf(document.hasFocus() ? navigator.getGamepads?.() ?? [] : [])); // else at rest
    const follows = head.following && head.playing && !screen.video;
    void this.driver.tick(follows ? Math.max(0, screen.shown) : null);
  }

  update() {
    const { take } = this.reel;
    const state = take?.info.drive ?? null;
    const { driver } = this;
    this.lines.update(state);
    this.element.hidden = !state;
    if (!state || !take) return;
    const other = driver.on && driver.answer?.answer === "other";
    this.button.hidden = !take.growing;
    this.button.disabled = !take.live && !driver.on;
    this.button.textContent = driver.on ? translate("Stop driving") : translate("Drive");
    this.button.setAttribute("aria-pressed", String(driver.on));
    this.takeOver.hidden = !other;
    this.mode.hidden = this.touch.element.hidden = !driver.on || other;
    this.touch.update();
    this.#write(this.status, other ? translate("Another tab drives this run.") : this.lines.outcome || this.#stateText(take, state));
    this.#write(this.facts, this.#latencyText());
    this.element.dataset.held = driver.keys.join(" ");
    this.element.dataset.made = state.motion;
    this.element.dataset.replanned = String(state.replanned ?? 0);
    this.element.dataset.latencies = String(driver.latency.measured.length);
  }

  dispose() {
    if (this.driver.on) this.#leaveWheel();
    window.removeEventListener("blur", this.onBlur);
  }

  /** Leave the wheel to the take's next player, if one comes: the host replaces the players at every undo. */
  #leaveWheel() {
    const [driver, session] = [this.driver, this.#session];
    if (!session) return driver.stop();
    driver.releaseAll();
    session.wheel = driver;
    setTimeout(() => {
      if (session.wheel !== driver) return;
      session.wheel = undefined;
      driver.stop();
    }, HAND_OVER_MS);
  }

  /** Go on with a drive that began in an earlier player of the take, and hear the keys, unless the user types. */
  #takeWheel() {
    const { session } = this.reel;
    const driver = session?.wheel;
    if (!driver || !this.element.isConnected) return;
    session.wheel = undefined;
    this.driver.stop();
    this.#session = session;
    this.driver = driver;
    driver.send = (body) => this.#send(body);
    driver.onChange = () => this.reel.onChange();
    this.mode.value = driver.mode;
    if (!document.activeElement?.closest(TYPING)) this.#focusPicture();
  }

  #focusPicture() {
    /** @type {HTMLElement|null|undefined} */ (this.element.closest("[data-longtake-player]")?.querySelector(".lt-stage"))?.focus({ preventScroll: true });
  }

  /** @param {import("../takes/take.mjs").Take} take @param {import("../types.mjs").DriveInfo} state */
  #stateText(take, state) {
    if (this.driver.on && !take.connected) return translate("No connection to the server.");
    return this.#motionText(state);
  }

  /** @param {import("../types.mjs").DriveInfo} state */
  #motionText(state) {
    const parts = [];
    const held = this.driver.on ? this.driver.answer?.motion : "";
    if (held) parts.push(translate("Held: {motion}.", { motion: held }));
    if (state.motion) parts.push(translate("Newest chunk: {motion}.", { motion: state.motion }));
    else if (this.driver.on) parts.push(translate("Press a key; it acts from the next chunk on."));
    if (state.replanned) parts.push(translate("Unseen chunks made again: {count}.", { count: state.replanned }));
    return parts.join(" ");
  }

  #latencyText() {
    const { latency } = this.driver;
    const [half, most] = [latency.percentile(0.5), latency.percentile(0.95)];
    if (half === null || most === null) return "";
    return translate("From key to picture: {half} (p50), {most} (p95).", { half: duration(half), most: duration(most) });
  }

  /** @param {HTMLElement} place @param {string} text */
  #write(place, text) {
    if (place.textContent !== text) place.textContent = text;
    place.hidden = text === "";
  }

  #setMode() {
    this.driver.mode = this.mode.value;
    this.#focusPicture();
  }

  /** @param {object} body */
  async #send(body) {
    if (!this.#session) throw new Error("No take is driven.");
    return this.#session.transport.steer(body);
  }
}
