"""Live controls of a run: asked on any thread, obeyed by the thread that makes chunks.

Requests are only noted here. The producing thread looks between two chunks: it waits while the run
is paused, takes the edit that is queued, ends where it is asked to stop. What users ask for before
the next chunk begins is one edit, since nothing of it was in force in between.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from ...errors import BadInput

State = Literal["running", "paused", "stopping", "stopped", "done"]
EditStatus = Literal["queued", "encoding", "applied", "failed"]

POLL_S = 0.1  # how often a paused run looks whether the host wants to end it
LONG_PAUSE_S = 60.0  # a longer pause gives the KV cache's memory back
MAX_GUIDANCE = 30.0  # as the sampler's own widget
MAX_LORA_STRENGTH = 20.0
STRENGTH_DIGITS = 4  # decimals that a strength is kept with, and written with in a timeline
ENDED = "The shot has ended; change its prompts and run again."
TOO_LATE = "The shot ended before this edit could take effect; run again to make it."


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of the prompt, the guidance strength, the LoRAs' strength or several, from one chunk
    on. `lora` is a factor on the strengths that the workflow gives.

    `first_frame` and `start_s` say where it took effect, in frames and seconds of video; `line` is
    the line of a prompt timeline that does the same.
    """

    status: EditStatus = "queued"
    text: str | None = None
    guidance: float | None = None
    lora: float | None = None
    first_frame: int | None = None
    start_s: float | None = None
    line: str | None = None
    error: str | None = None

    @property
    def applied(self) -> bool:
        """Whether it is in force."""
        return self.status == "applied"

    @property
    def told(self) -> str:
        """What it changed, for a report: the line that does the same, and what no line can say."""
        by_line = self.line or (None if self.guidance is None else str(self.guidance))
        lora = None if self.lora is None else f"LoRA x {self.lora:g}"
        return "; ".join(part for part in (by_line, lora) if part)


class Controls:
    """Pause, resume, stop and edits of one run; every method may be called on any thread.

    Listeners are called on the thread that made the change, without any lock held.
    """

    def __init__(self, *, long_pause_s: float = LONG_PAUSE_S) -> None:
        self.long_pause_s = long_pause_s
        self._changed = threading.Condition()
        self._state: State = "running"
        self._edits: list[Edit] = []
        self._revision = 0
        self._message: str | None = None
        self._paused_s = 0.0
        self._listeners: dict[int, Callable[[], None]] = {}
        self._listeners_ever = 0

    # What there is to see

    @property
    def state(self) -> State:
        """What the run does, or will do from the next chunk on."""
        return self._state

    @property
    def edits(self) -> tuple[Edit, ...]:
        """Every edit asked for, in order."""
        with self._changed:
            return tuple(self._edits)

    @property
    def revision(self) -> int:
        """Grows with every change of state, edits or message."""
        return self._revision

    @property
    def message(self) -> str | None:
        """The last sentence the run has for whoever watches."""
        return self._message

    @property
    def paused_s(self) -> float:
        """Seconds spent in pauses that are over."""
        return self._paused_s

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._state in ("stopped", "done")

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after every change; gives what ends that."""
        with self._changed:
            number = self._listeners_ever
            self._listeners_ever += 1
            self._listeners[number] = callback

        def unlisten() -> None:
            with self._changed:
                self._listeners.pop(number, None)

        return unlisten

    # What users ask for

    def pause(self) -> None:
        """Wait before the next chunk."""
        self._go("paused", "running")

    def resume(self) -> None:
        """Go on after a pause."""
        self._go("running", "paused")

    def stop(self) -> None:
        """End after the chunk that is being made; what exists is kept and passed on."""
        self._go("stopping", "running", "paused")

    def set_prompt(self, text: str) -> None:
        """Use another prompt from the next chunk on.

        Line breaks and runs of blanks become one blank, as a line of a timeline holds them.
        """
        self._ask(Edit(text=" ".join(text.split())))

    def set_guidance(self, strength: float) -> None:
        """Use another guidance strength (no unit, 1 for none) from the next chunk on."""
        if not math.isfinite(strength) or not 0 <= strength <= MAX_GUIDANCE:
            raise BadInput(f"guidance is {strength:g}; give a number from 0 to {MAX_GUIDANCE:g}.")
        self._ask(Edit(guidance=round(float(strength), STRENGTH_DIGITS)))

    def set_lora(self, factor: float) -> None:
        """Multiply the LoRAs' strength (no unit, 1 as wired, 0 for none) from the next chunk on."""
        if not math.isfinite(factor) or abs(factor) > MAX_LORA_STRENGTH:
            raise BadInput(
                f"lora is {factor:g}; give a number from {-MAX_LORA_STRENGTH:g} to "
                f"{MAX_LORA_STRENGTH:g}."
            )
        self._ask(Edit(lora=round(float(factor), STRENGTH_DIGITS)))

    # What the producing thread does

    def wait_while_paused(self, check: Callable[[], None], long_pause: Callable[[], None]) -> None:
        """Return once the run is not paused; until then ask `check`, which may raise to end it.

        `long_pause` is called once when the pause has lasted for `long_pause_s`.
        """
        if self._state != "paused":
            return
        began = time.monotonic()
        told = False
        try:
            while self._state == "paused":
                check()
                if not told and time.monotonic() - began >= self.long_pause_s:
                    told = True
                    long_pause()
                with self._changed:
                    self._changed.wait_for(lambda: self._state != "paused", POLL_S)
        finally:
            self._paused_s += time.monotonic() - began

    def take_edit(self) -> Edit | None:
        """The edit that is queued, which this thread must then apply or fail."""
        with self._changed:
            if not self._edits or self._edits[-1].status != "queued":
                return None
            taken = self._edits[-1] = replace(self._edits[-1], status="encoding")
        self._tell()
        return taken

    def apply_edit(self, taken: Edit, first_frame: int, start_s: float, line: str | None) -> None:
        """Note where the edit that was taken is in force from."""
        done = replace(taken, status="applied", first_frame=first_frame, start_s=start_s, line=line)
        self._settle(taken, done)

    def fail_edit(self, taken: Edit, error: str) -> None:
        """Note in one sentence why the edit that was taken is not in force."""
        self._settle(taken, replace(taken, status="failed", error=error))

    def say(self, message: str) -> None:
        """Tell whoever watches one sentence."""
        self._message = message
        self._tell()

    def end(self, *, stopped: bool) -> None:
        """Nothing more will come: the shot is whole, or it was stopped before its end."""
        with self._changed:
            if self.ended:
                return
            self._state = "stopped" if stopped else "done"
            for i, edit in enumerate(self._edits):
                if edit.status in ("queued", "encoding"):
                    self._edits[i] = replace(edit, status="failed", error=TOO_LATE)
            self._changed.notify_all()
        self._tell()

    # Within

    def _go(self, state: State, *allowed: State) -> None:
        with self._changed:
            if self._state not in allowed:
                return
            self._state = state
            self._changed.notify_all()
        self._tell()

    def _ask(self, edit: Edit) -> None:
        with self._changed:
            if self.ended:
                self._edits.append(replace(edit, status="failed", error=ENDED))
            elif self._edits and self._edits[-1].status == "queued":
                self._edits[-1] = _merged(self._edits[-1], edit)
            else:
                self._edits.append(edit)
        self._tell()

    def _settle(self, taken: Edit, settled: Edit) -> None:
        with self._changed:
            places = [i for i, edit in enumerate(self._edits) if edit is taken]
            if not places:
                raise ValueError(f"this edit is not under way: {taken}")
            self._edits[places[0]] = settled
        self._tell()

    def _tell(self) -> None:
        with self._changed:
            self._revision += 1
            listeners = list(self._listeners.values())
        for callback in listeners:
            callback()


def _merged(earlier: Edit, later: Edit) -> Edit:
    """Both as one edit: where they change the same, the later one counts."""
    return replace(
        earlier,
        text=earlier.text if later.text is None else later.text,
        guidance=earlier.guidance if later.guidance is None else later.guidance,
        lora=earlier.lora if later.lora is None else later.lora,
    )
