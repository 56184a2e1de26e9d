"""`Drive`: one person's live keys, read by the run as each chunk begins.

Any thread may steer. Of several pages one drives: the first, until it leaves or is silent for
`LEASE_S`, or another takes the wheel. What a chunk has read is kept as lines of text, which give
the same path again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ...model.vae.latent_format import frame_count
from ...samplers.camera.keys import NOTHING, KeyState
from ...samplers.camera.moves import CameraMotion, write_motion
from .input_log import InputLog, Look, Mode

PACE_MESSAGES = 24  # of a page, about a second of them
POLL_S = 0.1  # how often a run that waits checks whether the host wants to end it
LEASE_S = 5.0  # a page that says nothing for longer has lost the wheel, and holds nothing

Timeline = list[tuple[int, CameraMotion]]
"""Motions, each with its first latent frame."""
Answer = Literal["drives", "other", "ended", "no camera", "several shots"]


@dataclass(frozen=True, slots=True)
class Steer:
    """What a page says: what its person holds, and where the mouse went (right, down) in pixels.

    `number` grows with every message of a page. `shown` is the frame of video on its screen, None
    if it does not follow the run. `take_over` takes the wheel from another page; `leave` lets go.
    """

    driver: str
    number: int
    state: KeyState = NOTHING
    look: Look = (0.0, 0.0)
    mode: Mode = "hold"
    shown: int | None = None
    take_over: bool = False
    leave: bool = False


@dataclass(frozen=True, slots=True)
class DriveState:
    """What pages show of a drive.

    `motion` is what the newest chunk does, from frame of video `frame` on. `number` is the newest
    message of the driver that this chunk has read. `start_s` is where the drive began. `replanned`
    counts the chunks that keys threw away before anybody saw them.
    """

    driver: str | None = None
    mode: Mode = "hold"
    motion: str = ""
    frame: int | None = None
    number: int = 0
    start_s: float | None = None
    replanned: int = 0


class Drive:
    """The wheel of one run. `open` says whether the run has a camera that keys may drive.

    `can_wait` is False while readers hold a chunk back: the driver cannot see it, so that a run
    which waited for that would wait forever.
    """

    def __init__(
        self, on_change: Callable[[], None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._on_change, self._clock = on_change, clock
        self.can_wait = True
        self._changed = threading.Condition()
        self._open = self._begun = False
        self._log: InputLog | None = None
        self._last: Steer | None = None
        self._seen = 0.0
        self._state = DriveState()
        self._motions: Timeline = []
        self._read = 0  # the newest message that a chunk has read
        self._fps = 1.0
        self._shown = deque[tuple[float, int]](maxlen=PACE_MESSAGES)  # when, and which frame

    def open(self, fps: float) -> None:
        """Let pages drive; `fps` are frames of video a second."""
        self._fps, self._open = fps, True

    def close(self) -> None:
        """Let nobody drive any more."""
        with self._changed:
            self._open, self._last = False, None
            self._changed.notify_all()

    @property
    def state(self) -> DriveState | None:
        """What pages show; None if there is nothing to drive and nobody drove."""
        return self._state if self._open or self._motions else None

    @property
    def is_live(self) -> bool:
        """Whether somebody drives now, so that a chunk should not begin before it must."""
        with self._changed:
            return self._driver is not None

    @property
    def replans(self) -> bool:
        """Whether keys may still change a chunk that is made and that nobody has seen."""
        with self._changed:
            return self._state.mode == "re-plan" and self._driver is not None

    @property
    def motion(self) -> str:
        """What is held now, as a line's moves; a chunk may also have a tap or a mouse's way."""
        with self._changed:
            return write_motion(self._log.current.push.motion) if self._log else ""

    @property
    def lines(self) -> list[str]:
        """The drive as lines of a camera's timeline, each motion from its latent frame on."""
        with self._changed:
            return [
                f"{self._start_s(frame):.2f}: {write_motion(motion)}"
                for frame, motion in self._motions
            ]

    def steer(self, message: Steer) -> Answer:
        """Take a page's message, if the page drives, or may take the wheel."""
        with self._changed:
            if not self._open:
                return "ended" if self._motions else "no camera"
            driver = self._driver
            if driver not in (None, message.driver) and not message.take_over:
                return "other"
            is_new = driver != message.driver or message.leave
            if not is_new and self._last and message.number <= self._last.number:
                return "drives"  # a later message has overtaken this one
            self._note(message)
        if is_new:
            self._on_change()
        return "drives"

    def read(self, count: int, frame_s: float) -> tuple[CameraMotion, ...] | None:
        """The motions of the next `count` latent frames; None before anybody drove."""
        with self._changed:
            now = self._clock()
            if not self._begun or self._log is None:
                return None
            if self._driver is None:
                self._log.add(now, NOTHING)
            pushes = self._log.read(now, count, frame_s, self._state.mode)
            self._read = self._last.number if self._last else self._read
        return tuple(push.motion for push in pushes)

    def read_again(self, count: int, frame_s: float) -> tuple[CameraMotion, ...] | None:
        """What the newest chunk would have read if it began now; None if nothing has changed."""
        with self._changed:
            if not self._begun or self._log is None or not self._log.has_news:
                return None
            self._log.take_back()
        return self.read(count, frame_s)

    def note(self, first: int, motions: Sequence[CameraMotion]) -> Timeline:
        """Remember the motions that a chunk has from latent frame `first` on, and show them.

        They take the place of what a chunk from there had that was thrown away. Returns those that
        differ from the motion before, each with its latent frame. Frame 0 does not move, so that
        frame 1 begins with its motion: for both, all motions are returned.
        """
        with self._changed:
            while self._motions and self._motions[-1][0] >= first:
                self._motions.pop()
            known = len(self._motions) if first > 1 else 0
            for frame, motion in enumerate(motions, first):
                if not self._motions or self._motions[-1][1] != motion:
                    self._motions.append((frame, motion))
            began = self._start_s(self._motions[0][0])
            self._state = DriveState(
                self._driver, self._state.mode, write_motion(motions[-1]), frame_count(first),
                self._read, began, self._state.replanned,
            )  # fmt: skip
            changes = self._motions[known:]
        self._on_change()
        return changes

    def count_replanned(self) -> None:
        """Count a chunk that was thrown away, and show the number."""
        with self._changed:
            self._state = replace(self._state, replanned=self._state.replanned + 1)
        self._on_change()

    def is_ahead(self, frame: int) -> bool:
        """Whether the driver has not yet seen this frame of video, and will."""
        with self._changed:
            shown = None if self._driver is None or self._last is None else self._last.shown
            return self.can_wait and shown is not None and shown < frame

    @property
    def pace(self) -> float:
        """How many frames of video a second the driver's page shows: the shot's own, or more.

        A page that has nothing more to show is slower than it is set to be, hence the shot's own.
        """
        with self._changed:
            if len(self._shown) < PACE_MESSAGES:
                return self._fps
            (began, first), *_, (ended, last) = self._shown
            return max(self._fps, (last - first) / max(ended - began, 1 / self._fps))

    def wait(self, seconds: float) -> None:
        """Wait for a message, at most this long."""
        with self._changed:
            self._changed.wait(seconds)

    @property
    def _driver(self) -> str | None:
        if self._last is None or self._last.leave or self._clock() - self._seen > LEASE_S:
            return None
        return self._last.driver

    def _note(self, message: Steer) -> None:
        now = self._clock()
        self._log = self._log or InputLog(now)
        state, look = (NOTHING, (0.0, 0.0)) if message.leave else (message.state, message.look)
        self._log.add(now, state, look)
        self._note_shown(now, message)
        self._begun = self._begun or state != NOTHING or look != (0.0, 0.0)
        self._last, self._seen = message, now
        self._state = replace(self._state, driver=self._driver, mode=message.mode)
        self._changed.notify_all()

    def _note_shown(self, now: float, message: Steer) -> None:
        """Remember which frame is on the screen; another page, or one that jumped, begins anew."""
        driver = None if self._last is None else self._last.driver
        if message.shown is None or message.driver != driver:
            self._shown.clear()
        if message.shown is not None:
            if self._shown and message.shown < self._shown[-1][1]:
                self._shown.clear()
            self._shown.append((now, message.shown))

    def _start_s(self, frame: int) -> float:
        """The time at which a latent frame begins."""
        return frame_count(frame) / self._fps if frame > 0 else 0.0
