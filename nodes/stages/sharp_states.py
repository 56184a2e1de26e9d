"""Where the states of a super-resolution rest between runs: in memory, and on disk if asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from ...attention.snapshot import Snapshot
from ...model.flashvsr.passes import PassState
from ...model.flashvsr.replay import begin_before, from_snapshot, to_snapshot
from ...stream.journal.snapshots import Snapshots
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.rollout.hot_states import HotState
from ...units import byte_size
from ..runtime.session import session

logger = logging.getLogger("longtake")

KeyOf = Callable[[int], "str | None"]
"""The address of the frames that a pass makes; None where they have none."""

CHUNKS = 2
"""How many chunks rest beside a state: a super-resolution behind may lack the last two."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The states of all tiles, and the first pass whose frames are there or will be exact.

    `frames` are those of the last passes before the states, where they are still here.
    """

    states: Sequence[PassState]
    exact_from: int
    frames: tuple[FrameChunk, ...] = ()


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
        newest = self._newest(number, replayed.number) if number else None
        if newest is not None:
            snapshot, frames = newest
            try:
                states = from_snapshot(snapshot, device, self._tile_bytes)
                return Beginning(states, states[0].number - len(frames), frames)
            except (ValueError, LookupError, TypeError) as error:
                logger.warning("A super-resolution's state is not used (%s).", error)
        exact_from = number if replayed.skipped else 0
        return Beginning([replayed] * len(self._tile_bytes), exact_from)

    def rest(self, states: Sequence[PassState], frames: Iterable[FrameChunk]) -> None:
        """Keep the states of a run that ends in the middle in main memory, if there is room.

        The `frames` of the last passes stay too, if there is room: the host may have raised its
        interrupt in a stage behind, which then needs them again.
        """
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
        state = HotState(to_snapshot(states), self._disk.made_for, disk, tuple(frames))
        if not session.states.has_room_for(state.bytes):
            state = replace(state, frames=())
        session.states.keep(key, state)

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

    def _newest(self, number: int, earliest: int) -> tuple[Snapshot, tuple[FrameChunk, ...]] | None:
        """The newest state after one of the passes [earliest, number), or a later one that rests
        with the frames of all passes from `number` on.
        """
        keys = {index: self._key_of(index) or "" for index in range(earliest, number)}
        self._stored = [key for key in keys.values() if key]
        if not self._stored:
            return None
        for later in range(CHUNKS + 1):
            key = self._key_of(number - 1 + later) or ""
            warm = session.states.find(key, self._disk.made_for)
            state = session.states.at(key)
            if warm is None or state is None:
                continue
            frames = tuple(chunk for chunk in state.frames if chunk.index >= number)
            if len(frames) == later:
                return warm, frames
        on_disk = self._disk.newest(keys.__getitem__, number, earliest)
        return None if on_disk is None else (on_disk[1], ())
