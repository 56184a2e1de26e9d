"""Where the states of a super-resolution rest between runs: in memory, and on disk if asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ...attention.snapshot import Snapshot
from ...model.flashvsr.passes import PassState
from ...model.flashvsr.replay import begin_before, from_snapshot, to_snapshot
from ...stream.journal.snapshots import Snapshots
from ...stream.rollout.hot_states import HotState
from ...units import byte_size
from ..runtime.session import session

logger = logging.getLogger("longtake")

KeyOf = Callable[[int], "str | None"]
"""The address of the frames that a pass makes; None where they have none."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The states of all tiles, and the first pass after them whose frames are exact."""

    states: Sequence[PassState]
    exact_from: int


class SharpStates:
    """The states after passes, each under the address of the frames that the pass made.

    `made_for` identifies the networks and the settings, `tile_bytes` are the sizes of the states.
    `interval` is after how many passes a state goes to disk (0: never). `needed` passes must run
    before one whose frames are to be exact, where there is no state.
    """

    def __init__(
        self,
        key_of: KeyOf,
        made_for: str,
        tile_bytes: Sequence[int],
        *,
        interval: int,
        needed: int,
    ) -> None:
        self._key_of, self._tile_bytes = key_of, tile_bytes
        self._interval, self._needed = interval, needed
        self._disk = Snapshots(session.journal(), made_for)
        self._stored: list[str] = []  # where states of this video may be on disk

    def find(self, number: int, device: torch.device) -> Beginning:
        """Where to begin so that the frames of pass `number` are exact."""
        replayed = begin_before(number, self._needed)
        snapshot = self._newest(number, replayed.number) if number else None
        if snapshot is not None:
            try:
                states = from_snapshot(snapshot, device, self._tile_bytes)
                return Beginning(states, states[0].number)
            except (ValueError, LookupError, TypeError) as error:
                logger.warning("A super-resolution's state is not used (%s).", error)
        exact_from = number if replayed.skipped else 0
        return Beginning([replayed] * len(self._tile_bytes), exact_from)

    def rest(self, states: Sequence[PassState]) -> None:
        """Keep the states of a run that ends in the middle in main memory, if there is room."""
        key = self._key_of(states[0].number - 1)
        if key is None:
            return
        count = sum(state.bytes for state in states)
        if not session.states.has_room_for(count):
            logger.info(
                "The super-resolution's state of %s is dropped; the next run goes on from %s.",
                byte_size(count),
                "the one on disk" if self._interval else f"up to {self._needed} passes before",
            )
            return
        disk = self._disk if self._interval else None
        session.states.keep(key, HotState(to_snapshot(states), self._disk.made_for, disk))

    def snapshot(self, states: Sequence[PassState]) -> None:
        """Write the states to disk in place of those before, where their turn has come."""
        number = states[0].number
        key = self._key_of(number - 1)
        if key is None or not self._interval or number % self._interval:
            return
        self._disk.keep(key, to_snapshot(states))
        self.drop()
        self._stored = [key]

    def drop(self) -> None:
        """Delete the states on disk: the video is whole, or has a newer one."""
        for key in self._stored:
            self._disk.drop(key)
        self._stored = []

    def _newest(self, number: int, earliest: int) -> Snapshot | None:
        """The newest state after one of the passes [earliest, number)."""
        keys = {index: self._key_of(index) or "" for index in range(earliest, number)}
        self._stored = [key for key in keys.values() if key]
        if not self._stored:
            return None
        warm = session.states.find(keys[number - 1], self._disk.made_for)
        if warm is not None:
            return warm
        on_disk = self._disk.newest(keys.__getitem__, number, earliest)
        return None if on_disk is None else on_disk[1]
