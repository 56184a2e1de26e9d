"""Time and memory of a chunk after a long history: dense, windowed, merged, sparse.

The history is filled with what commit passes over finished latents gave, looked at through a window
and repeated, so that every cache gets the same keys and values. Then each case makes whole chunks
in turn: all steps, the commit pass, the commit and the decoding, of one branch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ...attention.ann.choice import open_buckets
from ...attention.cache.policy import FullHistory
from ...attention.history import HistoryCache, open_cache, planned_bytes
from ...attention.snapshot import Snapshot
from ...attention.sparse.blocks import TIME_ORDERS
from ...attention.sparse.key_codes import SlotCodes, entry_codes
from ...attention.sparse.prompt_attention import SparsePrompt
from ...attention.sparse.self_attention import SparseHistory
from ...attention.sparse.stats import SparseStats
from ...attention.sparse.thresholds import min_keys
from ...attention.storage.dense import DENSE
from ...attention.temp_cache.cache import MergedCache
from ...model.dit import KeysValues, Prediction, SelfAttention, predict
from ...model.vae.streaming import StreamingDecoder
from ...samplers.schedule.levels import preset_ladders
from .._shared.device import free_bytes, peak_in_work
from .cases import CASES, FULL, IN_WINDOW, SINK, WINDOW_CASE, Case, kept_in
from .speed_model import SpeedModel

SHARE = 0.9
"""Of what is free on a GPU, that a full history may take; the rest is for the work."""


class SpeedBench:
    """A model, and the caches that the cases need, beside the window. The full one is opened for
    the longest of the histories that it fits, `reach`; 0 where it fits none.
    """

    def __init__(
        self, model: SpeedModel, histories: Sequence[int], cases: Collection[Case]
    ) -> None:
        self.model, self.shape = model, model.cache_shape
        self.committed = 0  # latent frames of history
        self._prompts: dict[str, SparsePrompt] = {}  # what a rollout keeps while its prompt stays
        self._passed: list[tuple[KeysValues, ...]] = []  # of the clip, chunk by chunk
        self._ladder = preset_ladders(model.preset)[0]
        wanted = {IN_WINDOW, *(case.cache for case in cases)}
        self.caches: dict[str, HistoryCache] = {
            name: open_cache(self.shape, *kept, None, model.device)
            for name, kept in kept_in(self.shape).items()
            if name in wanted
        }
        self.reach = max(filter(self._fits, histories), default=0)
        if self.reach:
            length = self.reach + self.chunk_frames
            self.caches[FULL] = open_cache(self.shape, FullHistory(), DENSE, length, model.device)
        self._codes: dict[tuple[str, str], SlotCodes] = {}  # by cache and order
        for case in cases:
            self._open_codes(case)

    @property
    def chunk_frames(self) -> int:
        """Latent frames of a chunk."""
        return self.shape.chunk_frames

    def full_bytes(self, history: int) -> int:
        """What the full history takes after so many latent frames, with room for a chunk."""
        return planned_bytes(self.shape, FullHistory(), DENSE, history + self.chunk_frames)

    def _fits(self, history: int) -> bool:
        room = free_bytes(self.model.device)
        return room is None or self.full_bytes(history) <= SHARE * room

    def keep_only(self, cases: Collection[Case], history: int) -> None:
        """Give back what no case needs any more from that length on."""
        wanted = {FULL} if history <= self.reach else set[str]()
        wanted |= {IN_WINDOW, *(case.cache for case in cases)}
        for name in self.caches.keys() - wanted:
            del self.caches[name]
        orders = {(case.cache, order_of(case)) for case in cases}
        for key in self._codes.keys() - orders:
            del self._codes[key]

    @torch.inference_mode()
    def fill(self, until: int) -> None:
        """Commit the clip's latents, whole chunks, until at least that many are held."""
        while self.committed < until:
            at, stop = self.committed % len(self.model.clip), self.chunk_frames
            if len(self._passed) * stop <= at:
                x = self.model.clip[at : at + stop].unsqueeze(0)
                self._passed.append(self.commit_pass(CASES[WINDOW_CASE], x))
            for cache in self.caches.values():
                cache.commit(self._passed[at // stop])
            for codes in self._codes.values():
                codes.update()
            self.committed += stop

    def snapshot(self) -> dict[str, Snapshot]:
        """All that chunks which are kept change: every cache but the full one."""
        return {name: cache.snapshot() for name, cache in self.caches.items() if name != FULL}

    def restore(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Have the histories that a `snapshot` was made of, bit for bit."""
        for name, snapshot in snapshots.items():
            self.caches[name].restore(snapshot)

    def commit_pass(self, case: Case, x: Tensor) -> tuple[KeysValues, ...]:
        """Keys and values of finished latents x (b, f, c, h, w)."""
        attention = self.caches[case.cache].attention_of_commit((x.shape[1],) * x.shape[1])
        return self._predict(case, x, 0.0, attention, keep=True).keys_values

    def _predict(
        self, case: Case, x: Tensor, sigma: float, attention: SelfAttention, *, keep: bool = False
    ) -> Prediction:
        """A pass over latents x at the noise level sigma."""
        t = torch.full(x.shape[:2], 1000 * sigma)
        return predict(
            self.model.tree, x.to(self.model.dtype), t, self.model.texts[case.long_prompt],
            attention, to_prompt=self._to_prompt(case), keep=keep,
        )  # fmt: skip

    def _to_prompt(self, case: Case) -> SparsePrompt | None:
        """Made once for all chunks, as in a rollout."""
        asked = case.sparsity.prompt_sparsity
        if asked is None:
            return None
        return self._prompts.setdefault(repr(case), SparsePrompt(asked))

    def chunk(self, case: Case, *, keep: bool = True) -> tuple[SparseStats, Tensor]:
        """A chunk as `make` makes it, and its frames (t, 3, H, W)."""
        stats, x = self.make(case, keep=keep)
        return stats, self.decode(x)

    @torch.inference_mode()
    def make(self, case: Case, *, keep: bool = True) -> tuple[SparseStats, Tensor]:
        """All steps of a chunk's latents (f, c, h, w), the pass that commits it, and the commit.

        The full history is not added to, so that it stays as long as it says, nor are its new keys
        coded, but its rotated keys are made again, as after a commit; nor are the others added to
        without `keep`.
        """
        cache, stats, frames = self.caches[case.cache], SparseStats(), self.chunk_frames
        history = self._sparse_history(case, stats)
        size = 1, frames, *self.model.clip.shape[1:]
        x = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(self.model.device)
        for step, (now, after) in enumerate(pairwise(self._ladder)):
            dense, done = cache.attention(frames), step / (len(self._ladder) - 1)
            attention = dense if history is None else history.over(dense, [done] * frames)
            x = x + (after - now) * self._predict(case, x, now, attention).velocity.float()
        kept = self.commit_pass(case, x)
        if case.cache == FULL:
            cache._forget_rotated()  # type: ignore[attr-defined]
        elif keep:
            cache.commit(kept)
        return stats, x[0]

    @torch.inference_mode()
    def decode(self, x: Tensor) -> Tensor:
        """The frames (t, 3, H, W), float32, of latents x (f, c, h, w)."""
        return StreamingDecoder(self.model.decoder).feed(x.to(self.model.dtype)).float()

    def held_bytes(self, case: Case) -> int:
        """Bytes of a case's cache; of the full history's what it takes for so many latent frames,
        since it is there for the longest one from the beginning.
        """
        if case.cache == FULL:
            return self.full_bytes(self.committed)
        return self.caches[case.cache].bytes

    def peak_of_making(self, case: Case) -> int:
        """The most bytes that making one more chunk takes at once, beside caches and model."""
        return peak_in_work(lambda: self.make(case), self.model.device)

    def peak_of_decoding(self) -> int:
        """The same of decoding a chunk, whatever made it."""
        latents = self.model.clip[: self.chunk_frames]
        return peak_in_work(lambda: self.decode(latents), self.model.device)

    def _sparse_history(self, case: Case, stats: SparseStats) -> SparseHistory | None:
        """Sparse attention where the settings, or what was measured, want it."""
        chosen, cache = case.sparsity.self_sparsity, self.caches[case.cache]
        if chosen is None:
            return None
        least, _ = min_keys(chosen.min_keys, cache.device)
        if least is None:
            return None
        if chosen.order in TIME_ORDERS:
            codes = None
        elif isinstance(cache, MergedCache):
            codes = entry_codes(cache)
        else:
            codes = self._codes[case.cache, chosen.order].of_layer
        return SparseHistory(chosen, stats, sink_frames=SINK, min_keys=least, codes=codes)

    def _open_codes(self, case: Case) -> None:
        """Buckets beside a cache whose keys are sorted by them and that has none of its own."""
        cache, order = self.caches.get(case.cache), order_of(case)
        if cache and order not in TIME_ORDERS and not isinstance(cache, MergedCache):
            codes = SlotCodes(cache, open_buckets(order, cache.shape))
            self._codes.setdefault((case.cache, order), codes)


def order_of(case: Case) -> str:
    """The order in which a case's blocks have the history's keys."""
    return (
        TIME_ORDERS[0] if case.sparsity.self_sparsity is None else case.sparsity.self_sparsity.order
    )
