"""`ChunkProducer`: a running sampling loop, restored from a snapshot or by replay."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ...attention.snapshot import Snapshot
from ...samplers.loop import Chunk, Loop
from ...samplers.settings import RolloutSettings
from ..journal.snapshots import Snapshots
from ..replay_watch import ReplayWatch, until_stopped
from .hot_states import HotState
from .out_of_memory import is_out_of_memory
from .recache import chunks_to_replay, last_rebuild
from .run_state import RunState
from .spec import RolloutSpec

logger = logging.getLogger("longtake")

MISFITS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError)
"""What a state from a file may raise whose facts or tensors are not those of this loop."""


class ChunkProducer:
    """Makes chunks from chunk `first` on, with what is in force in `state`.

    `watch` follows the replay of finished chunks, if there is one.
    `smaller` saves memory: rotated keys are not held, and branches are evaluated one by one.
    `notice` is a sentence for users if the loop could only be restored approximately.
    """

    def __init__(
        self, spec: RolloutSpec, state: RunState, first: int, watch: ReplayWatch | None = None,
        *, smaller: bool = False,
    ) -> None:  # fmt: skip
        frame = state.chain.span(first).first
        self._spec, self._state, self._first = spec, state, first
        self._start = state.settings.at(frame)
        self._snapshots = Snapshots(spec.journal, self._made_for())
        self.notice: str | None = None

        def settings_at(latent_frame: int) -> RolloutSettings:
            # Replayed chunks are committed for the branches of this one, whatever made them. The
            # producer is not named: a circle would keep its KV caches while the next one claims.
            settings = state.settings.at(max(latent_frame, frame))
            return _smaller_plan(settings) if smaller else settings

        if spec.model.host.scale_loras is not None:
            spec.model.host.scale_loras(self._start.lora_factor)
        start = _smaller_plan(self._start) if smaller else self._start
        self.loop = Loop(start, spec.model, settings_at)
        replayed = self._restore(first)
        last = state.read(first - 1) if first and not replayed else None
        in_flight = last.in_flight if last else ()
        finished = state.replay(replayed)
        if watch is not None:
            finished = watch.follow(finished, replayed)
        self.chunks: Iterator[Chunk] = until_stopped(self.loop.chunks(finished, in_flight))
        state.may_recache = False

    def next(self) -> Chunk | None:
        """The next chunk; None at the end of the schedule."""
        with self._spec.model.host.around_chunk():
            return next(self.chunks, None)

    def make_again(self, index: int) -> None:
        """Make chunk `index`, the newest one, again under what is now in force.

        It is not committed yet, so the history is as it was when the chunk began.
        """
        before = self._state.read(index - 1) if index else None
        self.chunks = self.loop.chunks((), before.in_flight if before else ())

    def is_outdated(self, first: int) -> bool:
        """Whether chunk `first` needs another producer, which commits the finished chunks again.

        True if the guidance in force has other branches, if the LoRA strength differs, if the
        history is rebuilt from its window at this chunk, or if a KV cache was dropped.
        """
        state, frame = self._state, self._state.chain.span(first).first
        settings = state.settings.at(frame)
        if first != self._first and frame in state.settings.recache_frames:
            return True
        if settings.guidance.inputs != self._start.guidance.inputs:
            return True
        if settings.lora_factor != self._start.lora_factor:
            return True
        return any(cache.dropped for cache in self.loop.branches.caches)

    def rest(self) -> None:
        """Keep the state in memory for the next run, if it fits."""
        hot, loop = self._spec.hot, self.loop
        if hot is None or not self._is_whole:
            return
        if not hot.has_room_for(loop.branches.kv_bytes):
            size = f"{loop.branches.kv_bytes / 2**30:.1f} GB"
            logger.info("The rollout's state of %s is dropped; the next run will replay it.", size)
            return
        key = self._newest_key()
        state = None if key is None else self._hot_state()
        if key is not None and state is not None:
            hot.keep(key, state)

    def state_at(self, key: str) -> HotState | None:
        """A copy of the state, if it is the one after the chunk with this address and fits."""
        return self._hot_state() if self._is_whole and self._newest_key() == key else None

    @property
    def _is_whole(self) -> bool:
        """Whether there is a state and no commit is in progress."""
        caches = self.loop.branches.caches
        return self.loop.settled and bool(caches) and not any(cache.dropped for cache in caches)

    def _newest_key(self) -> str | None:
        """The address of the newest chunk that is both in the journal and in the state."""
        chain, index = self._state.chain, self.loop.index
        newest = index if chain.key(index) in self._spec.journal else index - 1
        return chain.key(newest) if newest >= 0 else None

    def _hot_state(self) -> HotState | None:
        disk, snapshot = self._snapshots if self._spec.snapshot_chunks else None, self._copy()
        return None if snapshot is None else HotState(snapshot, self._snapshots.made_for, disk)

    def _copy(self) -> Snapshot | None:
        """A copy of the loop's state; None where no memory is left for one.

        It only saves time, so the shot goes on without it.
        """
        try:
            return self.loop.snapshot()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("No memory is left to keep the rollout's state; a replay replaces it.")
            return None

    def snapshot(self, index: int) -> None:
        """Write the state after chunk `index` to disk, in place of the previous snapshot."""
        key, snapshot = self._state.chain.key(index), self._copy()
        if snapshot is not None:
            self._snapshots.keep(key, snapshot)

    def _restore(self, first: int) -> Sequence[int]:
        """Restore the newest state before chunk `first`; returns the chunks left to commit."""
        snapshot = self._find_snapshot(first)
        if snapshot is not None:
            try:
                self._check_position(snapshot, first)
                self.loop.restore(snapshot)
                return range(self.loop.index, first)
            except MISFITS as error:
                if is_out_of_memory(error):
                    raise
                reason = f"{type(error).__name__}: {error}"
                logger.warning("The loop's state is not used (%s); replaying.", reason)
                self._reset_loop()
        self.notice = self._state.try_recache(first)
        indices = chunks_to_replay(self._state.chain, first)
        self._note_anchor(first, indices)
        return indices

    def _note_anchor(self, first: int, replayed: Sequence[int]) -> None:
        """Take the anchor of chunk `first` from a chunk that a recache does not commit again."""
        chain, settings = self._state.chain, self._start
        frame = chain.span(first).first
        start = settings.active_prompts(frame, frame + 1).prompts[0][0]
        index = chain.chunk_at(start)
        if settings.anchor is None or index >= first or index in replayed:
            return
        (chunk,) = self._state.replay([index])
        self.loop.anchors.note(chunk.first_frame, chunk.latents, start)

    def _check_position(self, snapshot: Snapshot, first: int) -> None:
        """ValueError if a snapshot is not of one of our chunks up to `first`."""
        index, frame = snapshot.facts["index"], snapshot.facts["first"]
        if type(index) is not int or not 0 <= index <= first:
            raise ValueError(f"it is of chunk {index!r} and chunk {first} comes next")
        if type(frame) is not int or frame != self._state.chain.span(index).first:
            raise ValueError(f"its chunk {index} begins at latent frame {frame!r}")

    def _find_snapshot(self, first: int) -> Snapshot | None:
        """The state that the last run left in memory, or else the newest one on disk."""
        chain, hot = self._state.chain, self._spec.hot
        rebuilt = last_rebuild(chain, first)
        if hot is not None and first > rebuilt:
            warm = hot.find(chain.key(first - 1), self._snapshots.made_for)
            if warm is not None:
                before = hot.at(chain.key(first - 1))
                if before is not None and before.disk is not None:
                    self._snapshots.latest = before.disk.latest
                return warm
        on_disk = self._snapshots.newest(chain.key, first, rebuilt)
        return None if on_disk is None else on_disk[1]

    def _reset_loop(self) -> None:
        """Replace a loop that was only half restored by an empty one."""
        self.loop = Loop(self.loop.settings, self.loop.branches.model, self.loop.settings_at)

    def _made_for(self) -> str:
        """A digest of everything that must match for a snapshot to be usable here."""
        start, chain = self._start, self._state.chain
        maker = chain.models.at(chain.span(self._first).first)
        text = f"{start.guidance.inputs!r} {start.lora_factor!r} {self._spec.model.dtype} {maker}"
        return hashlib.sha256(text.encode()).hexdigest()


def _smaller_plan(settings: RolloutSettings) -> RolloutSettings:
    guidance = replace(settings.guidance, in_one_pass=False)
    return replace(settings, hold_rotated=False, guidance=guidance)
