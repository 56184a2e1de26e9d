"""The making of chunks: a hot loop, begun from a snapshot or by replay, and the memory it holds."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..attention.history_cache import HistoryCache
from ..samplers.rollout import Chunk, Loop
from ..samplers.settings import RolloutSettings
from .snapshots import Snapshots

if TYPE_CHECKING:
    from .run import Run

logger = logging.getLogger("longtake")


class Making:
    """Makes the chunks of `run` from chunk `first` on; `smaller` takes less memory for the same.

    Not much smaller: rotated keys are not held, and branches are evaluated one by one.
    """

    def __init__(self, run: Run, first: int, *, smaller: bool = False) -> None:
        frame = run.chain.span(first).first
        self._run, self._smaller = run, smaller
        self._start = run.settings.at(frame)
        self._caches: list[HistoryCache] = []
        self._snapshots = Snapshots(run.rollout.journal, self._made_for())
        self._kept: str | None = None  # the address of the snapshot that the next one replaces

        def settings_at(latent_frame: int) -> RolloutSettings:
            # Replayed chunks are committed for the branches of this one, whatever made them.
            return self._sized(run.settings.at(max(latent_frame, frame)))

        model = replace(run.rollout.model, hold=self._hold)
        self.loop = Loop(self._sized(self._start), model, settings_at)
        self.chunks: Iterator[Chunk] = self.loop.chunks(run.replayed(first, self._restored(first)))

    def is_outdated(self, in_force: RolloutSettings) -> bool:
        """Whether a KV cache was given back, or they have no place for the guidance `in_force`.

        Then they are made anew: the finished chunks are committed again.
        """
        if in_force.guidance.inputs != self._start.guidance.inputs:
            return True
        return any(cache.dropped for cache in self._caches)

    def snapshot(self, index: int) -> None:
        """Keep the state after chunk `index` was made, in place of the one kept before."""
        key = self._run.chain.key(index)
        self._snapshots.keep(key, self.loop.snapshot())
        if self._kept not in (None, key):
            self._snapshots.drop(str(self._kept))
        self._kept = key

    def _restored(self, first: int) -> int:
        """Begin with the newest snapshot before chunk `first`; the chunk to replay from."""
        found = self._snapshots.newest(self._run.chain.key, first)
        if found is None:
            return 0
        index, snapshot = found
        try:
            self.loop.restore(snapshot)
        except ValueError as error:
            logger.warning("The loop's state is not used (%s); replaying.", error)
            self._start_anew()
            return 0
        self._kept = self._run.chain.key(index)
        return index

    def _start_anew(self) -> None:
        """An empty loop in place of one that was restored by half."""
        self._caches.clear()
        self.loop = Loop(self.loop.settings, self.loop.branches.model, self.loop.settings_at)

    def _sized(self, settings: RolloutSettings) -> RolloutSettings:
        if not self._smaller:
            return settings
        guidance = replace(settings.guidance, at_once=False)
        return replace(settings, hold_rotated=False, guidance=guidance)

    def _made_for(self) -> str:
        """What a snapshot must have been made for to be of use here."""
        text = f"{self._start.guidance.inputs!r} {self._run.rollout.model.dtype}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _hold(self, cache: HistoryCache) -> None:
        self._caches.append(cache)
        self._run.rollout.model.hold(cache)
