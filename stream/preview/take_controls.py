"""The controls of a take: the run's while it lasts, and their last state afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..drive.drive import Answer, DriveState, Steer
from ..incoming.inlet import Fault, Wish
from ..rollout.live.controls import Controls
from ..rollout.live.edit_queue import Edit


class TakeControls:
    """Passes a page's numbered requests to the run's controls, which it releases at the end.

    The controls keep the whole rollout alive, so a finished take must not keep them.
    """

    def __init__(self, controls: Controls | None, on_change: Callable[[], None]) -> None:
        self.rev = 0  # the newest request that was obeyed
        self._controls = controls
        self._closed = controls is None
        self._last_edits: tuple[Edit, ...] = ()
        self._last_message: str | None = None
        self._last_drive: DriveState | None = None
        self._last_lines: list[str] = []
        self._last_seed: int | None = None
        self._lock = threading.Lock()
        self._stop_listening = controls.listen(on_change) if controls else None

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Every edit of the run."""
        controls = self._controls
        return controls.edits if controls else self._last_edits

    @property
    def fork_seed(self) -> int | None:
        """The seed that waits for a fork; None if there is none."""
        controls = self._controls
        return controls.edit_queue.fork_seed if controls else self._last_seed

    @property
    def message(self) -> str | None:
        """The run's last sentence for users."""
        controls = self._controls
        return controls.message if controls else self._last_message

    @property
    def drive(self) -> DriveState | None:
        """What the camera's driver does; None if there is nothing to drive."""
        controls = self._controls
        return controls.drive.state if controls else self._last_drive

    @property
    def drive_lines(self) -> list[str]:
        """What was driven, as lines of a camera's timeline."""
        controls = self._controls
        return controls.drive.lines if controls else self._last_lines

    @property
    def drive_motion(self) -> str:
        """What is held now, as a line's moves."""
        controls = self._controls
        return controls.drive.motion if controls else ""

    @property
    def wish(self) -> Wish | None:
        """What the run wants of a page's camera or screen; None if nothing."""
        controls = self._controls
        return controls.inlet.wish if controls and not self._closed else None

    def put_picture(self, picture: bytes) -> bool:
        """Pass on a page's JPEG; False if the run does not want it."""
        controls = self._controls
        return controls is not None and not self._closed and controls.inlet.put(picture)

    def note_fault(self, fault: Fault) -> bool:
        """Pass on why a page sends no pictures; False if the run does not want any."""
        controls = self._controls
        return controls is not None and not self._closed and controls.inlet.fail(fault)

    def steer(self, message: Steer) -> Answer:
        """Pass on what a page's person holds, unless the take has ended."""
        controls = self._controls
        if controls is None or self._closed:
            return "ended"
        return controls.drive.steer(message)

    @property
    def run_state(self) -> str:
        """running, paused or stopping: a stopped run is stopping until all its frames are here."""
        controls = self._controls
        state = controls.state if controls else "running"
        if state == "paused":
            return state
        wants_stop = controls is not None and controls.wants_stop
        return "stopping" if state == "stopping" or wants_stop else "running"

    def obey(self, rev: int, command: Callable[[Controls], None]) -> bool:
        """Run `command`, unless `rev` is not newer than the last one or the take has ended."""
        controls = self._controls
        with self._lock:
            if controls is None or self._closed or rev <= self.rev:
                return False
            self.rev = rev
        command(controls)
        return True

    def close(self) -> None:
        """Obey no more requests."""
        with self._lock:
            self._closed = True

    def release(self) -> None:
        """Keep the last state and let the run go."""
        controls = self._controls
        if controls is None:
            return
        self.close()
        self._last_edits, self._last_message = controls.edits, controls.message
        self._last_seed = controls.edit_queue.fork_seed
        self._last_drive, self._last_lines = controls.drive.state, controls.drive.lines
        if self._stop_listening is not None:
            self._stop_listening()
        self._controls = None
