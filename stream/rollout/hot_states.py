"""States of loops that are not running, kept in main memory so that the next run goes on at once.

Several rollouts share one budget. The state that was used longest ago gives way: to disk where its
rollout asked for snapshots, and else it is let go, which the log says; the next run then replays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ...attention.snapshot import Snapshot
from ...errors import StorageError
from ..journal.snapshots import Snapshots

logger = logging.getLogger("longtake")


@dataclass(frozen=True, slots=True)
class HotState:
    """The state after some chunk; where it goes when there is no more room, if anywhere."""

    snapshot: Snapshot
    made_for: str
    disk: Snapshots | None

    @property
    def bytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self.snapshot.tensors.values())


class HotStates:
    """By the address of the chunk that each was taken at, within `budget_bytes()`.

    Used by the thread that makes chunks alone, but for `clear`.
    """

    def __init__(self, budget_bytes: Callable[[], int]) -> None:
        self.budget_bytes = budget_bytes
        self._states: dict[str, HotState] = {}  # the one used longest ago first

    @property
    def bytes(self) -> int:
        """Bytes of all."""
        return sum(state.bytes for state in list(self._states.values()))

    def __len__(self) -> int:
        return len(self._states)

    def has_room_for(self, count: int) -> bool:
        """Whether so many bytes could be kept, others giving way."""
        return count <= self.budget_bytes()

    def keep(self, key: str, state: HotState) -> None:
        """Keep the state at chunk `key`; others give way to it."""
        self._states.pop(key, None)
        self._states[key] = state
        budget = self.budget_bytes()
        while self.bytes > budget:
            self._let_go(next(iter(self._states)))

    def find(self, key: str, made_for: str) -> Snapshot | None:
        """The state at chunk `key`, if it was made for the same; it stays, as the newest used."""
        state = self._states.pop(key, None)
        if state is None:
            return None
        self._states[key] = state
        return state.snapshot if state.made_for == made_for else None

    def at(self, key: str) -> HotState | None:
        """The state at chunk `key`, as it is."""
        return self._states.get(key)

    def clear(self, *, told: bool = True) -> None:
        """Give all memory back, as where there is no more room; on any thread. Nobody is `told` of
        what is lost where the process ends.
        """
        for key in list(self._states):
            self._let_go(key, told=told)

    def _let_go(self, key: str, *, told: bool = True) -> None:
        state = self._states.pop(key, None)
        if state is None:  # another thread was there first
            return
        size = f"{state.bytes / 2**20:.0f} MB"
        if state.disk is None:
            if told:
                logger.info(
                    "A rollout's state of %s is dropped; the next run will replay it.", size
                )
            return
        try:
            state.disk.keep(key, state.snapshot)
        except StorageError as error:
            logger.warning("A rollout's state of %s is dropped (%s).", size, error)
