"""The live edits of one run: queued on any thread, applied by the thread that makes chunks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ....samplers.control.strength import MAX_STRENGTH

EditStatus = Literal["queued", "encoding", "applied", "failed"]
Number = Literal["guidance", "lora", "strength", "level"]

MAX_GUIDANCE = 30.0
LEAST_LEVEL = 0.05  # below, nothing would be redrawn
RANGES: Mapping[Number, tuple[float, float]] = {
    "guidance": (0.0, MAX_GUIDANCE),
    "lora": (-20.0, 20.0),
    "strength": (0.0, MAX_STRENGTH),
    "level": (LEAST_LEVEL, 1.0),
}
"""The least and the greatest of each number that users may change in mid-shot; no units.

`guidance` is 1 for none; `lora` multiplies the strength of LoRAs; `strength` is that of the control
video; `level` is the noise level of frames that are redrawn.
"""

MAX_OVER_S = 600.0
"""How long a prompt may take to blend in, in seconds of video."""

ENDED = "The shot has ended; change the prompts and run again."
TOO_LATE = "The shot ended before this edit could take effect; run again to make it."


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of prompt or of numbers, or of several of these, from one chunk on.

    The prompt takes `over_s` seconds of video to blend in; None: it begins at once.
    `guidance` is a strength, `lora` a factor on the strengths that the workflow gives, `strength`
    that of the control video, `level` the noise level of frames that are redrawn. `seed` is that of
    all noise from there on, and was held for this edit. `first_frame` and `start_s` say where the
    edit took effect, in frames and seconds of video. `line` is the timeline line that has the same
    effect.
    """

    status: EditStatus = "queued"
    text: str | None = None
    over_s: float | None = None
    guidance: float | None = None
    lora: float | None = None
    strength: float | None = None
    level: float | None = None
    seed: int | None = None
    first_frame: int | None = None
    start_s: float | None = None
    line: str | None = None
    error: str | None = None

    @property
    def applied(self) -> bool:
        """Whether the edit is in force."""
        return self.status == "applied"

    @property
    def summary(self) -> str:
        """What the edit changed, for a report: its line, and what no line holds."""
        by_line = self.line or self.text or (None if self.guidance is None else str(self.guidance))
        by_line_too = {"over": self.over_s, "LoRA x": self.lora} if self.line is None else {}
        others = {**by_line_too, "control strength": self.strength, "level": self.level}
        parts = [f"{name} {value:g}" for name, value in others.items() if value is not None]
        seed = None if self.seed is None else f"seed {self.seed}"
        return "; ".join(part for part in (by_line, *parts, seed) if part)


class EditQueue:
    """All edits of a run in order; at most one is queued. Safe on any thread.

    Edits that arrive before the next chunk merge into one, since none of them was in force in
    between. `on_change` is called after every change, without the lock.
    """

    def __init__(self, lock: threading.Condition, on_change: Callable[[], None]) -> None:
        self._lock, self._on_change = lock, on_change
        self._edits: list[Edit] = []
        self._refusal: str | None = None
        self._first_chunk = 0
        self._fork_seed: int | None = None

    @property
    def all(self) -> tuple[Edit, ...]:
        """Every edit that was requested, in order."""
        with self._lock:
            return tuple(self._edits)

    def tell(self, listener: Callable[[list[str], list[str]], None]) -> None:
        """Give the edits in force, as lines of a timeline, and in words those that no line says."""
        applied = [edit for edit in self.all if edit.applied]
        lines = [edit.line for edit in applied if edit.line is not None]
        listener(lines, [edit.summary for edit in applied if edit.line is None])

    @property
    def waiting(self) -> bool:
        """Whether an edit waits for the next chunk."""
        with self._lock:
            return bool(self._edits) and self._edits[-1].status == "queued"

    def add(self, edit: Edit) -> None:
        """Queue an edit; it fails at once if the queue is closed."""
        with self._lock:
            if self._refusal is not None:
                self._edits.append(replace(edit, status="failed", error=self._refusal))
            elif self.waiting:
                self._edits[-1] = _merge(self._edits[-1], edit)
            else:
                self._edits.append(edit)
        self._on_change()

    @property
    def fork_seed(self) -> int | None:
        """The seed that waits for a fork; None if the next one keeps the shot's."""
        return self._fork_seed

    def hold_seed(self, seed: int) -> None:
        """Give `seed` to the next edit that comes in force; a newer seed replaces it."""
        with self._lock:
            if self._refusal is None:
                self._fork_seed = seed
        self._on_change()

    def hold(self, first_chunk: int) -> None:
        """Let edits wait until this chunk: outputs have those before from an earlier run."""
        self._first_chunk = max(self._first_chunk, first_chunk)

    def is_early(self, chunk: int) -> bool:
        """Whether outputs have this chunk from an earlier run, so that nothing may change it."""
        return chunk < self._first_chunk

    def take(self, chunk: int | None = None) -> Edit | None:
        """The queued edit, if any, to act from `chunk` on; the caller must `apply` or `fail` it."""
        with self._lock:
            if (chunk is not None and self.is_early(chunk)) or not self.waiting:
                return None
            edit = replace(self._edits[-1], status="encoding", seed=self._fork_seed)
            self._edits[-1] = edit
        self._on_change()
        return edit

    def apply(self, edit: Edit, first_frame: int, start_s: float, line: str | None) -> None:
        """Record where a taken edit took effect; its seed waits no longer."""
        with self._lock:
            if edit.seed == self._fork_seed:
                self._fork_seed = None
        done = replace(edit, status="applied", first_frame=first_frame, start_s=start_s, line=line)
        self._settle(edit, done)

    def fail(self, edit: Edit, error: str) -> None:
        """Record in one sentence why a taken edit has no effect; its seed waits for another."""
        self._settle(edit, replace(edit, status="failed", error=error, seed=None))

    def close(self, refusal: str = ENDED) -> None:
        """Fail every open edit, and all later ones with `refusal`. Does not call `on_change`."""
        with self._lock:
            self._refusal = refusal
            for i, edit in enumerate(self._edits):
                if edit.status in ("queued", "encoding"):
                    self._edits[i] = replace(edit, status="failed", error=TOO_LATE)

    def _settle(self, current: Edit, settled: Edit) -> None:
        with self._lock:
            places = [i for i, edit in enumerate(self._edits) if edit is current]
            if not places:
                raise ValueError(f"this edit is not in progress: {current}")
            self._edits[places[0]] = settled
        self._on_change()


def _merge(earlier: Edit, later: Edit) -> Edit:
    """Both edits as one; the later one wins where both change the same thing."""
    numbers = {name: getattr(later, name) for name in RANGES}
    changes: dict[str, Any] = {n: value for n, value in numbers.items() if value is not None}
    if later.text is not None:
        changes |= {"text": later.text, "over_s": later.over_s}
    return replace(earlier, **changes)
