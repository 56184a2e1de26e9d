"""The history of a rollout: its KV caches, the frames in them, and sparse attention over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ...attention.delta.cache import DeltaCache
from ...attention.history import HistoryCache
from ...attention.readable import KeyCounts
from ...attention.snapshot import Snapshot, join
from ...attention.sparse.stats import SparseStats
from ..current import CurrentSettings
from ..evaluator import Evaluator
from ..guidance import Branch
from .filler import CacheFiller
from .frames import HistoryFrame, HistoryFrames
from .plan import CachePlan, cache_plans
from .recall import FrameRecall, open_recall
from .selection import CacheView, select
from .sparse import SparseCaches


class RolloutHistory:
    """All that later chunks remember of earlier ones.

    The constructor allocates the KV caches, so the model must be claimed with their bytes before.
    `recall` fetches past frames into the window; another may take its place before any is fetched.
    """

    def __init__(
        self,
        current: CurrentSettings,
        evaluator: Evaluator,
        make_filler: type[CacheFiller] = CacheFiller,
    ) -> None:
        settings, model = current.settings, evaluator.model
        self._current, self._device = current, model.device
        plans = cache_plans(settings, model.config, model.dtype)
        turn, products = model.arithmetic.turn, model.layers.products
        self.plans = tuple(plan.computing(turn, products) for plan in plans)
        self.caches = [plan.open(settings.length, model.device) for plan in self.plans]
        for cache in self.caches:
            model.host.register_cache(cache)
            if isinstance(cache, DeltaCache):
                cache.state.gates = evaluator.gates
        rebuilt = any(plan.fill_mode == "rebuilt" for plan in self.plans)
        self.frames = HistoryFrames(
            keep_latents=rebuilt or settings.on_prompt_change == "re-cache",
            keep_departed=settings.reencoded_first_frame is not None,
        )
        self.sparse = SparseCaches(settings, self.plans, self.caches)
        self.recall: FrameRecall = open_recall(current, self.caches[0])
        self.key_counts = [KeyCounts() for _ in self.caches]
        self._filler = make_filler(current, evaluator, self.frames)
        self._not_committed = frozenset(
            i for i, plan in enumerate(self.plans) if plan.fill_mode != "committed"
        )
        self._stale = set(self._not_committed)

    @property
    def bytes(self) -> int:
        """Bytes of all caches."""
        return sum(cache.bytes for cache in self.caches)

    @property
    def sink_frames(self) -> int:
        """How many of the first latent frames are never evicted."""
        return self._current.settings.cache.sink_frames

    @property
    def sparse_stats(self) -> SparseStats | None:
        """What sparse attention did so far; None where attention is dense."""
        return self.sparse.stats

    @property
    def recalled(self) -> tuple[int, ...]:
        """The past latent frames that were fetched for the chunk in work, rising."""
        return self.recall.frames

    def begin_chunk(self, frames: range) -> None:
        """Fetch the past latent frames that a chunk of these next `frames` recalls."""
        if self.recall.fetch(frames):
            self.frames.hold(self.caches[0].kept_frames)
            self._history_changed()

    def commit(self, first: int, clean: Tensor, known: Sequence[bool]) -> None:
        """Take finished latents (f, c, h, w) from frame `first` into every history."""
        added = self.frames.append(first, clean, known)
        survivors = self._survivors(len(added))
        for plan, cache in self._committed_caches:
            self._filler.commit(plan, cache, added, clean)
        self.frames.committed += len(added)
        self.recall.note([entry.frame for entry in added])
        self.frames.keep(survivors())
        self._stale |= self._not_committed
        self._history_changed()

    def prompts_changed(self) -> None:
        """Treat the history as `on_prompt_change` says, after other prompts were put in force."""
        self.forget_prompts()
        match self._current.settings.on_prompt_change:
            case "re-cache":
                for plan, cache in self._committed_caches:
                    self._filler.rebuild(plan, cache)
            case "flush":
                self._flush()
            case "keep":
                pass
        self._history_changed()

    def forget_prompts(self) -> None:
        """Mark every cache stale that depends on one prompt alone."""
        for plan, cache in zip(self.plans, self.caches, strict=True):
            if plan.fill_mode == "noise":
                cache.clear()
        self._stale |= self._not_committed

    def view_of(self, branch: Branch, *, ahead: bool = False) -> CacheView:
        """What a branch reads, in its simplest form; the cache is brought up to date.

        `ahead`: there are known frames ahead, which the branch may see.
        """
        frames = self.frames
        chosen = select(
            branch, self.plans, self._current.settings, frames.numbers, frames.committed
        )
        gap = self._current.settings.position_gap(frames.committed, len(frames))
        if not chosen.is_nothing:
            self._refresh(chosen.cache)
            self.caches[chosen.cache].leave_gap(gap)
        slots = None if chosen.ranks is None else self._slots(chosen.cache, chosen.ranks)
        level = branch.view.level_ahead if ahead else None
        skipped = None if branch.skipped is None else branch.skipped.layers
        return CacheView(
            branch.prompt, chosen.cache, chosen.row, slots, chosen.position + gap, level, skipped
        )

    def snapshot(self) -> Snapshot:
        """All caches, the frames in them, and the codes of their keys."""
        caches = {f"cache{i}": cache.snapshot() for i, cache in enumerate(self.caches)}
        parts = {"frames": self.frames.snapshot(), "sparse": self.sparse.snapshot(), **caches}
        parts["recall"] = self.recall.snapshot()
        return join({"stale": sorted(self._stale)}, parts)

    def restore(self, snapshot: Snapshot, size: Sequence[int]) -> None:
        """Continue, bit for bit, from a snapshot of the same settings; the length may differ.

        `size` is that of one latent frame (c, h, w). ValueError if the snapshot does not fit.
        """
        for i, cache in enumerate(self.caches):
            cache.restore(snapshot.part(f"cache{i}"))
        self.frames.restore(snapshot.part("frames"), size, self._device)
        self._check_frames()
        self._stale = set(snapshot.facts["stale"])
        self.sparse.restore(snapshot.part("sparse"))
        self.recall.restore(snapshot.part("recall"))
        for counts in self.key_counts:
            counts.clear()

    def _check_frames(self) -> None:
        """ValueError if the restored caches hold other latent frames than the history."""
        numbers = self.frames.numbers
        if numbers != sorted(set(numbers)):
            raise ValueError(f"a history's latent frames are in order; got {numbers}")
        for _, cache in self._committed_caches[:1]:
            present = sorted(cache.kept_frames)
            is_sound = len({*present}) == len(present) == len(numbers)
            if not is_sound or present[-1:] >= [cache.committed]:
                raise ValueError(f"a cache has latent frames {present} of a history of {numbers}")

    @property
    def _committed_caches(self) -> list[tuple[CachePlan, HistoryCache]]:
        pairs = zip(self.plans, self.caches, strict=True)
        return [(plan, cache) for plan, cache in pairs if plan.fill_mode == "committed"]

    def _slots(self, index: int, ranks: range) -> tuple[int, ...]:
        """The slots in which a cache has the frames of these ranks."""
        if not ranks:
            return ()
        positions = self.caches[index].positions  # merged histories have more places than ranks
        slots = sorted(range(len(positions)), key=positions.__getitem__)
        return tuple(slots[rank] for rank in ranks)

    def _refresh(self, index: int) -> None:
        """Fill a stale cache again."""
        if index not in self._stale:
            return
        plan, cache = self.plans[index], self.caches[index]
        if plan.fill_mode == "noise":
            self._filler.fill_with_noise(plan, cache)
        else:
            self._filler.rebuild(plan, cache)
        self._stale.remove(index)
        self.key_counts[index].clear()

    def _history_changed(self) -> None:
        """Forget what was derived from the old history."""
        self.sparse.history_changed()
        for counts in self.key_counts:
            counts.clear()

    def _flush(self) -> None:
        """Forget all but the sink and the newest latent frame, which the next one follows."""
        newest = max(0, len(self.frames) - 1)
        sink = min(newest, self._current.settings.cache.sink_frames)
        for _, cache in self._committed_caches:
            numbers = sorted(cache.kept_frames)
            cache.retain([*numbers[:sink], *numbers[newest:]])
        frames = self.frames.frames
        self.frames.keep([*frames[:sink], *frames[newest:]])

    def _survivors(self, count: int) -> Callable[[], list[HistoryFrame]]:
        """A function that tells which frames remain once the last `count` are committed."""
        if self.plans[0].fill_mode == "committed":
            return self.frames.survivors(self.caches[0], count)
        return lambda: self.frames.in_window(self._current.settings.cache)
