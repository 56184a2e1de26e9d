"""The making of chunks: a hot loop, begun from a snapshot or by replay, and the memory it holds."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...attention.snapshot import Snapshot
from ...samplers.loop import Chunk, Loop
from ...samplers.settings import RolloutSettings
from ..journal.snapshots import Snapshots
from .hot_states import HotState
from .recache import committed_again, since

if TYPE_CHECKING:
    from .run import Run

logger = logging.getLogger("longtake")


class ChunkProducer:
    """Makes the chunks of `run` from chunk `first` on; `smaller` takes less memory for the same.

    Not much smaller: rotated keys are not held, and branches are evaluated one by one.
    """

    def __init__(self, run: Run, first: int, *, smaller: bool = False) -> None:
        frame = run.chain.span(first).first
        self._run, self._first, self._smaller = run, first, smaller
        self._start = run.settings.at(frame)
        self._snapshots = Snapshots(run.rollout.journal, self._made_for())
        self._kept: str | None = None  # the address of the snapshot that the next one replaces

        def settings_at(latent_frame: int) -> RolloutSettings:
            # Replayed chunks are committed for the branches of this one, whatever made them.
            return self._sized(run.settings.at(max(latent_frame, frame)))

        model = run.rollout.model
        if model.host.scale_loras is not None:
            model.host.scale_loras(self._start.lora)
        self.loop = Loop(self._sized(self._start), model, settings_at)
        again = self._restored(first)
        last = run.read(first - 1) if first and not again else None
        in_flight = last.in_flight if last else ()
        self.chunks: Iterator[Chunk] = self.loop.chunks(run.replayed(again), in_flight)

    def is_outdated(self, first: int) -> bool:
        """Whether a KV cache was given back, or they have no place for the guidance in force for
        chunk `first`, or were made with LoRAs of another strength, or the history is to be of the
        window alone from there on.

        Then they are made anew: the finished chunks are committed again.
        """
        run, frame = self._run, self._run.chain.span(first).first
        in_force = run.settings.at(frame)
        if first != self._first and frame in run.settings.recached:
            return True
        if in_force.guidance.inputs != self._start.guidance.inputs:
            return True
        if in_force.lora != self._start.lora:
            return True
        return any(cache.dropped for cache in self.loop.branches.caches)

    def rest(self) -> None:
        """Keep the state in memory for the next run, where there is room for it."""
        hot, loop = self._run.rollout.hot, self.loop
        if hot is None or not self._is_whole:
            return
        if not hot.has_room_for(loop.branches.histories.bytes):
            size = f"{loop.branches.histories.bytes / 2**30:.1f} GB"
            logger.info("The rollout's state of %s is let go; going on will replay it.", size)
            return
        key = self._newest_key()
        if key is not None:
            hot.keep(key, self._state())

    def state_at(self, key: str) -> HotState | None:
        """A copy of the state, if it is that at the chunk of this address."""
        return self._state() if self._is_whole and self._newest_key() == key else None

    @property
    def _is_whole(self) -> bool:
        """Whether there is a state, and no commit under way."""
        lost = any(cache.dropped for cache in self.loop.branches.caches)
        return self.loop.settled and bool(self.loop.branches.caches) and not lost

    def _newest_key(self) -> str | None:
        """The address of the newest chunk that is in the journal and in the state."""
        run, index = self._run, self.loop.index
        made = index if run.chain.key(index) in run.rollout.journal else index - 1
        return run.chain.key(made) if made >= 0 else None

    def _state(self) -> HotState:
        disk = self._snapshots if self._run.rollout.snapshot_chunks else None
        return HotState(self.loop.snapshot(), self._snapshots.made_for, disk)

    def snapshot(self, index: int) -> None:
        """Keep the state after chunk `index` was made, in place of the one kept before."""
        key = self._run.chain.key(index)
        self._snapshots.keep(key, self.loop.snapshot())
        if self._kept not in (None, key):
            self._snapshots.drop(str(self._kept))
        self._kept = key

    def _restored(self, first: int) -> Sequence[int]:
        """Begin with the newest state before chunk `first`; the chunks to commit after that."""
        snapshot = self._found(first)
        if snapshot is not None:
            try:
                self.loop.restore(snapshot)
                return range(self.loop.index, first)
            except ValueError as error:
                logger.warning("The loop's state is not used (%s); replaying.", error)
                self._start_anew()
        self._run.may_recache(first)
        return committed_again(self._run.chain, first)

    def _found(self, first: int) -> Snapshot | None:
        """What a run that ended at chunk `first` has left in memory, or the newest on disk."""
        run, hot = self._run, self._run.rollout.hot
        anew = since(run.chain, first)
        if hot is not None and first > anew:
            warm = hot.find(run.chain.key(first - 1), self._snapshots.made_for)
            if warm is not None:
                return warm
        on_disk = self._snapshots.newest(run.chain.key, first, anew)
        if on_disk is None:
            return None
        self._kept = run.chain.key(on_disk[0])
        return on_disk[1]

    def _start_anew(self) -> None:
        """An empty loop in place of one that was restored by half."""
        self.loop = Loop(self.loop.settings, self.loop.branches.model, self.loop.settings_at)

    def _sized(self, settings: RolloutSettings) -> RolloutSettings:
        if not self._smaller:
            return settings
        guidance = replace(settings.guidance, at_once=False)
        return replace(settings, hold_rotated=False, guidance=guidance)

    def _made_for(self) -> str:
        """What a snapshot must have been made for to be of use here."""
        start, run = self._start, self._run
        maker = run.chain.makers.at(run.chain.span(self._first).first)
        text = f"{start.guidance.inputs!r} {start.lora!r} {run.rollout.model.dtype} {maker}"
        return hashlib.sha256(text.encode()).hexdigest()
