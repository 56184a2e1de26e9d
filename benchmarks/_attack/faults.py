"""Injected errors of a disk, and power that fails at one kind of operation.

A run that meets an error must end with one sentence, or go on as if nothing had happened. The next
run must give the bits of the undisturbed one, and leave every file whole.
"""

from __future__ import annotations

import errno
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from .._long.kill import KINDS, WAYS, CrashPoints, Outcome, run_once, run_with
from ..crash import is_whole
from .tally import Tally

OPERATIONS = ("write", "replace", "fsync")
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
KILL = "SIGKILL"
WAY_OUT = ("free some", "choose another", "check the disk", "run again", "Set snapshot_chunks")


class FaultPoints(CrashPoints):
    """Raises an OSError at one operation; a full disk stays full until the run ends."""

    def __init__(self, fatal: int, operation: str, number: int) -> None:
        super().__init__(fatal, operation)
        self._number = number
        self._full = False

    def __call__(self, operation: str = "evaluation", *, after: bool = False) -> None:
        super().__call__(operation, after=after)
        if self._full and self.on and operation == "write" and not after:
            self._raise()

    def strike(self, *, after: bool) -> None:
        """Fail before the operation; what is done already cannot fail."""
        if not after:
            self._full = self._number == errno.ENOSPC
            self._raise()

    def _raise(self) -> None:
        raise OSError(self._number, os.strerror(self._number))


def attack(count: int, seed: int, report: Callable[[str], None]) -> Tally:
    """Meet `count` faults; `report` gets each run that did not hold."""
    tally = Tally()
    whole: dict[tuple[str, str], Outcome] = {}
    for number in range(count):
        dice = random.Random(f"{seed} fault {number}")
        kind, way = dice.choice([*KINDS]), dice.choice([*WAYS])
        if (kind, way) not in whole:
            with tempfile.TemporaryDirectory() as folder:
                whole[kind, way] = run_once(Path(folder), kind, way, None)
        fault = (KILL, *ERRORS)[number % 3]
        operation = OPERATIONS[number // 3 % 3]
        at = dice.randint(1, max(1, whole[kind, way].counts.get(operation, 0)))
        with tempfile.TemporaryDirectory() as folder:
            problem = _meet(Path(folder), (kind, way), (fault, operation, at), whole[kind, way])
        tally.add(fault)
        if problem:
            tally.fail(problem)
            report(f"fault {number}: {fault} at {operation} {at} of {kind} by {way}: {problem}")
    return tally


def _meet(
    folder: Path, shot: tuple[str, str], fault: tuple[str, str, int], whole: Outcome
) -> str | None:
    """Run with a fault and then without; the problem, if there is one."""
    name, operation, at = fault
    points = (
        CrashPoints(at, operation) if name == KILL else FaultPoints(at, operation, ERRORS[name])
    )
    first = run_with(points, folder, *shot)
    if "Traceback" in first.errors:
        return f"a traceback: {first.errors[-600:]}"
    if first.refusal and not any(words in first.refusal for words in WAY_OUT):
        return f"the sentence names no way out: {first.refusal}"
    if not first.killed and not first.refusal and not _same(first, whole):
        return "a run that went on has other bits"
    second = run_with(CrashPoints(None), folder, *shot)
    if "Traceback" in second.errors:
        return f"a traceback of the next run: {second.errors[-600:]}"
    if second.refusal:
        return f"the next run was refused: {second.refusal}"
    unsynced = operation == "fsync" and name != KILL  # the disk refused a chunk, says the sentence
    resumed_at = (second.resumed_from or second.delivered) + unsynced
    if resumed_at < min(first.delivered, second.delivered):
        return f"{first.delivered} chunks were delivered and {resumed_at} are left"
    if not _same(second, whole):
        return "the next run has other bits"
    return None if is_whole(folder) else "a file is not whole"


def _same(run: Outcome, whole: Outcome) -> bool:
    return (run.latents, run.frames) == (whole.latents, whole.frames)
