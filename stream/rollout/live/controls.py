"""Live controls of a run: requested on any thread, obeyed by the thread that makes chunks.

A request is only recorded. Between two chunks, the producing thread waits while the run is paused,
takes the queued edit, and ends if a stop was requested.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Literal

from ....errors import BadInput
from ...drive.drive import POLL_S, Drive
from ...incoming.inlet import Inlet
from ...run_clock import RunClock
from .edit_queue import MAX_OVER_S, RANGES, Edit, EditQueue, Number

State = Literal["running", "paused", "stopping", "stopped", "done"]

LONG_PAUSE_S = 60.0  # a longer pause gives the KV cache's memory back
STRENGTH_DIGITS = 4  # decimals of a strength, here and in a timeline's line


class Controls:
    """Pause, resume, stop, edits and live keys of one run; every method is safe on any thread.

    `members` are the runs that it controls: this one, or several in `JointControls`. `clock` stands
    still in pauses; `work_clock` also while the run waits for a driver or live frames. While this
    run is paused, all of `paused_clocks` stand still. A stop lets a run make its first chunk, so
    that outputs have something, unless it `may_be_empty`: another shot stands before it in the
    video. Listeners are called on the thread that made the change, without any lock.
    """

    def __init__(self, *, long_pause_s: float = LONG_PAUSE_S) -> None:
        self.long_pause_s = long_pause_s
        self.members: tuple[Controls, ...] = (self,)
        self.clock = RunClock()
        self.paused_clocks = frozenset({self.clock})
        self.work_clock = RunClock(self.clock)
        self._changed = threading.Condition()
        self.edit_queue = EditQueue(self._changed, self._announce)
        self.drive = Drive(self._announce)
        self.inlet = Inlet(self._announce)
        self._state: State = "running"
        self._wants_stop = self.may_be_empty = False
        self._message: str | None = None
        self._listeners: dict[int, Callable[[], None]] = {}
        self._next_listener = 0

    # State

    @property
    def state(self) -> State:
        """What the run does, or will do from the next chunk on."""
        return self._state

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Every edit that was requested, in order."""
        return self.edit_queue.all

    @property
    def message(self) -> str | None:
        """The run's last sentence for users."""
        return self._message

    @property
    def paused_s(self) -> float:
        """Total seconds of finished pauses."""
        return self.clock.paused_s

    @property
    def ended(self) -> bool:
        """Whether no more chunks will come."""
        return self.state in ("stopped", "done")

    @property
    def wants_stop(self) -> bool:
        """Whether the run was stopped early, or a user asked for that, perhaps after its end."""
        return self._wants_stop or self._state == "stopped"

    @property
    def has_requests(self) -> bool:
        """Whether a pause, a stop or an edit waits for the next chunk."""
        return self._state != "running" or self.edit_queue.waiting

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after every change; the returned function ends that."""
        with self._changed:
            number = self._next_listener
            self._next_listener += 1
            self._listeners[number] = callback

        def unlisten() -> None:
            with self._changed:
                self._listeners.pop(number, None)

        return unlisten

    # Requests of users

    def pause(self) -> None:
        """Wait before the next chunk."""
        self._change_state("paused", "running")

    def resume(self) -> None:
        """Make the next chunk, if production was paused."""
        self._change_state("running", "paused")

    def stop(self) -> None:
        """End after the current chunk; finished chunks are kept and passed on.

        Listeners are told of it after the end too, for the runs that are shown with this one.
        """
        with self._changed:
            is_new, self._wants_stop = not self._wants_stop, True
        if is_new and self.ended:
            self._announce()
        self._change_state("stopping", "running", "paused")

    def set_prompt(self, text: str, over_s: float = 0.0) -> None:
        """Use another prompt from the next chunk on, or blend it in over so many seconds."""
        self.change(text, {}, over_s)

    def set_number(self, name: Number, value: float) -> None:
        """Use another number of `RANGES` from the next chunk on."""
        self.change(None, {name: value})

    def change(
        self, text: str | None, numbers: Mapping[Number, float], over_s: float = 0.0
    ) -> None:
        """Use another prompt, other numbers of `RANGES`, or both, as one edit.

        The prompt blends in over `over_s` seconds of video; numbers change at once. Line breaks
        and runs of blanks become one blank, since a timeline's line cannot hold them.
        """
        changes: dict[str, Any] = {} if text is None else {"text": " ".join(text.split())}
        over_s = round(float(over_s), STRENGTH_DIGITS)
        if over_s and (text is None or not 0 <= over_s <= MAX_OVER_S):
            raise BadInput(
                f"over is {over_s:g}; give it from 0 to {MAX_OVER_S:g} seconds, beside a prompt."
            )
        if over_s:
            changes["over_s"] = over_s
        for name, value in numbers.items():
            low, high = RANGES[name]
            if not low <= value <= high:  # true for NaN
                raise BadInput(f"{name} is {value:g}; give a number from {low:g} to {high:g}.")
            changes[name] = round(float(value), STRENGTH_DIGITS)
        self.edit_queue.add(Edit(**changes))

    # Calls of the producing thread

    def wait_while_paused(
        self, check: Callable[[], None], long_pause: Callable[[], None] = lambda: None
    ) -> None:
        """Block while the run is paused. `check` is called meanwhile and may raise to end the run.

        `long_pause` is called once when the pause has lasted for `long_pause_s`.
        """
        if self._state != "paused":
            return
        began, is_long = time.monotonic(), False
        with ExitStack() as pauses:
            for clock in self.paused_clocks:
                pauses.enter_context(clock.pause())
            while self._state == "paused":
                check()
                if not is_long and time.monotonic() - began >= self.long_pause_s:
                    is_long = True
                    long_pause()
                with self._changed:
                    self._changed.wait_for(lambda: self._state != "paused", POLL_S)

    def notify(self, message: str) -> None:
        """Show users one sentence."""
        self._message = message
        self._announce()

    def end(self, *, stopped: bool) -> None:
        """Record that no more chunks come: the shot is whole, or it was `stopped` early."""
        with self._changed:
            if self.ended:
                return
            self._state = "stopped" if stopped else "done"
            self.edit_queue.close()
            self.drive.close()
            self.inlet.close()
            self._changed.notify_all()
        self._announce()

    def _change_state(self, state: State, *allowed: State) -> None:
        with self._changed:
            if self._state not in allowed:
                return
            self._state = state
            self._changed.notify_all()
        self._announce()

    def _announce(self) -> None:
        with self._changed:
            listeners = list(self._listeners.values())
        for callback in listeners:
            callback()
