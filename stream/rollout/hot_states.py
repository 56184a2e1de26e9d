"""Loop states of finished runs, kept in main memory so that the next run continues at once.

Several rollouts share one budget. The least recently used state is evicted: to disk if its rollout
uses snapshots, otherwise it is dropped with a log line, and the next run replays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ...attention.snapshot import Snapshot
from ...errors import StorageError
from ..journal.snapshots import Snapshots
from ..lazy.frame_chunk import FrameChunk

logger = logging.getLogger("longtake")


@dataclass(frozen=True, slots=True)
class HotState:
    """The loop's state after a chunk; `disk` is where an eviction moves it, if anywhere.

    `frames` are the last chunks before it, which no output may have yet.
    """

    snapshot: Snapshot
    made_for: str
    disk: Snapshots | None
    frames: tuple[FrameChunk, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of the tensors."""
        pictures = (chunk.frames for chunk in self.frames)
        return sum(tensor.nbytes for tensor in (*self.snapshot.tensors.values(), *pictures))


class HotStates:
    """States by the address of their chunk, within `budget_bytes()`.

    Only the thread that makes chunks may use this, except for `clear`.
    """

    def __init__(self, budget_bytes: Callable[[], int]) -> None:
        self.budget_bytes = budget_bytes
        self._states: dict[str, HotState] = {}  # the least recently used first

    @property
    def bytes(self) -> int:
        """Bytes of all states."""
        return sum(state.bytes for state in list(self._states.values()))

    def __len__(self) -> int:
        return len(self._states)

    def has_room_for(self, count: int) -> bool:
        """Whether `count` bytes fit after evicting all other states."""
        return count <= self.budget_bytes()

    def keep(self, key: str, state: HotState) -> None:
        """Store the state at chunk `key`, evicting others if necessary."""
        self._states.pop(key, None)
        self._states[key] = state
        budget = self.budget_bytes()
        for oldest in list(self._states):  # a copy: `clear` may empty the states meanwhile
            if self.bytes <= budget:
                break
            self._evict(oldest)

    def find(self, key: str, made_for: str) -> Snapshot | None:
        """The state at chunk `key`, if `made_for` matches; it becomes the most recent one."""
        state = self._states.pop(key, None)
        if state is None:
            return None
        self._states[key] = state
        return state.snapshot if state.made_for == made_for else None

    def at(self, key: str) -> HotState | None:
        """The state at chunk `key`, whatever it was made for."""
        return self._states.get(key)

    def clear(self, *, log: bool = True) -> None:
        """Evict all states; on any thread. `log` is off at the end of the process."""
        for key in list(self._states):
            self._evict(key, log=log)

    def _evict(self, key: str, *, log: bool = True) -> None:
        state = self._states.pop(key, None)
        if state is None:  # another thread was faster
            return
        size = f"{state.bytes / 2**20:.0f} MB"
        if state.disk is None:
            if log:
                logger.info(
                    "A rollout's state of %s is dropped; the next run will replay it.", size
                )
            return
        try:
            state.disk.keep(key, state.snapshot)
        except StorageError as error:
            logger.warning("A rollout's state of %s is dropped (%s).", size, error)
