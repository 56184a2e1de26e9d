"""The lock of a rollout against other processes, which the runs of this one share.

A graph may hold a shot and its continuation, or two shots that differ in their length alone. Their
chunks are the same as far as both go, so either run makes what the other one finds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from ..journal.journal import Journal
from ..journal.lock import ProcessLock

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass
class _Rollout:
    """A rollout that this process makes: its lock, for how many runs, and whose turn it is."""

    lock: ProcessLock
    is_alone: bool
    runs: int = 0
    turn: threading.RLock = field(default_factory=threading.RLock)


# Of the whole process, as the locks of the operating system are.
_rollouts: dict[tuple[Path, str], _Rollout] = {}
_guard = threading.RLock()  # a garbage collection may release a lock while another one is made


class SharedLock:
    """Held from construction to `release`; Held (BadInput) names another process that has it.

    A run that is `alone`, since a live source makes its chunks differ, shares with no other one.
    """

    def __init__(self, journal: Journal, rollout_id: str, *, alone: bool = False) -> None:
        self._key = journal.folder.resolve(), rollout_id
        with _guard:
            rollout = _rollouts.get(self._key)
            if rollout is None or alone or rollout.is_alone:
                rollout = _Rollout(journal.lock(rollout_id), is_alone=alone)
                _rollouts[self._key] = rollout
            rollout.runs += 1
        self._rollout: _Rollout | None = rollout
        self._turn = rollout.turn

    def in_turn(
        self, make: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Call `make` while no other run of the rollout makes a chunk: the next one finds it."""
        with self._turn:
            return make(*args, **kwargs)

    def release(self) -> None:
        """Let go; the last run of the process releases the lock. Releasing twice is harmless."""
        with _guard:
            rollout, self._rollout = self._rollout, None
            if rollout is None:
                return
            rollout.runs -= 1
            if not rollout.runs:
                del _rollouts[self._key]
                rollout.lock.release()
