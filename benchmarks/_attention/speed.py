"""Time and memory of a chunk after a long history: dense, windowed, merged, sparse.

The history is filled with the keys and values of commit passes over finished latents, attending
through a window and repeated, so that every cache gets the same content. Then each case makes whole
chunks in turn: all steps, the commit pass, the commit and the decoding, of one branch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ...attention.ann.choice import open_buckets
from ...attention.cache.kv_cache import KVCache
from ...attention.cache.policy import FullHistory
from ...attention.history import HistoryCache, open_cache, planned_bytes
from ...attention.layout import key_reader
from ...attention.snapshot import Snapshot
from ...attention.sparse.blocks import TIME_ORDERS
from ...attention.sparse.key_codes import SlotCodes, entry_codes, entry_numbers
from ...attention.sparse.prompt_attention import SparsePrompt
from ...attention.sparse.self_attention import SparseHistory
from ...attention.sparse.stats import SparseStats
from ...attention.sparse.thresholds import min_keys
from ...attention.storage.dense import DENSE
from ...attention.temp_cache.cache import MergedCache
from ...model.cross_attention import KeysValues
from ...model.dit import PassOptions, Prediction, SelfAttention, predict
from ...model.vae.streaming import StreamingDecoder
from ...samplers.schedule.levels import preset_ladders
from .._shared.device import free_bytes, peak_in_work
from .cases import CASES, FULL, IN_WINDOW, SINK, WINDOW_CASE, SpeedCase, bounded_caches
from .speed_model import SpeedModel

SHARE = 0.9
"""Share of a GPU's free memory that a full history may take; the rest is working memory."""


class SpeedBench:
    """A model and the caches of all cases, besides the window.

    The full cache is opened for the longest history that fits into memory, `reach`; 0 means none.
    """

    def __init__(
        self, model: SpeedModel, histories: Sequence[int], cases: Collection[SpeedCase]
    ) -> None:
        self.model, self.shape = model, model.cache_shape
        self.committed = 0  # latent frames of history
        self._prompts: dict[str, SparsePrompt] = {}  # a rollout keeps these while its prompt stays
        self._passed: list[tuple[KeysValues, ...]] = []  # keys and values of the clip's chunks
        self._ladder = preset_ladders(model.preset)[0]
        names = {IN_WINDOW, *(case.cache for case in cases)}
        self.caches: dict[str, HistoryCache] = {
            name: open_cache(self.shape, *choice, None, model.device)
            for name, choice in bounded_caches(self.shape).items()
            if name in names
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
        return self.shape.chunk_frames

    def full_bytes(self, history: int) -> int:
        """Return the bytes of the full history after `history` latent frames, with space for a
        chunk.
        """
        return planned_bytes(self.shape, FullHistory(), DENSE, history + self.chunk_frames)

    def _fits(self, history: int) -> bool:
        free = free_bytes(self.model.device)
        return free is None or self.full_bytes(history) <= SHARE * free

    def keep_only(self, cases: Collection[SpeedCase], history: int) -> None:
        """Drop all caches and codes that `cases` do not need from `history` on."""
        names = {FULL} if history <= self.reach else set[str]()
        names |= {IN_WINDOW, *(case.cache for case in cases)}
        for name in self.caches.keys() - names:
            del self.caches[name]
        orders = {(case.cache, order_of(case)) for case in cases}
        for key in self._codes.keys() - orders:
            del self._codes[key]

    @torch.inference_mode()
    def fill(self, until: int) -> None:
        """Commit the clip's latents in whole chunks until the caches hold at least `until` latent
        frames.
        """
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
        """Return the state that committed chunks change: every cache but the full one."""
        return {name: cache.snapshot() for name, cache in self.caches.items() if name != FULL}

    def restore(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Restore caches from a `snapshot`, bit for bit."""
        for name, snapshot in snapshots.items():
            self.caches[name].restore(snapshot)

    def commit_pass(self, case: SpeedCase, x: Tensor) -> tuple[KeysValues, ...]:
        """Return keys and values of finished latents x (b, f, c, h, w)."""
        attention = self.caches[case.cache].attention_of_commit((x.shape[1],) * x.shape[1])
        return self._predict(case, x, 0.0, attention, keep=True).keys_values

    def _predict(
        self,
        case: SpeedCase,
        x: Tensor,
        sigma: float,
        attention: SelfAttention,
        *,
        keep: bool = False,
    ) -> Prediction:
        """Run a pass over latents x at the noise level sigma."""
        t, first = torch.full(x.shape[:2], 1000 * sigma), self.caches[case.cache].committed
        hooks = self.model.camera(range(first, first + x.shape[1]))
        return predict(
            self.model.tree, x.to(self.model.dtype), t, self.model.texts[case.long_prompt],
            attention, PassOptions(self._to_prompt(case), keep, hooks=hooks),
        )  # fmt: skip

    def _to_prompt(self, case: SpeedCase) -> SparsePrompt | None:
        """Return the case's prompt attention; one object serves all chunks, as in a rollout."""
        sparsity = case.sparsity.prompt_sparsity
        if sparsity is None:
            return None
        return self._prompts.setdefault(repr(case), SparsePrompt(sparsity))

    def chunk(self, case: SpeedCase, *, keep: bool = True) -> tuple[SparseStats, Tensor]:
        """Return statistics and frames (t, 3, H, W) of a chunk; see `make`."""
        stats, x = self.make(case, keep=keep)
        return stats, self.decode(x)

    @torch.inference_mode()
    def make(self, case: SpeedCase, *, keep: bool = True) -> tuple[SparseStats, Tensor]:
        """Make a chunk's latents (f, c, h, w): all steps, the commit pass, and the commit.

        The full history gets no commit and keeps its length; its new keys are not coded. Its
        rotated keys are computed again, as after a commit. Without `keep` no cache gets a commit.
        """
        cache, stats, frames = self.caches[case.cache], SparseStats(), self.chunk_frames
        history = self._sparse_history(case, stats)
        size = 1, frames, *self.model.clip.shape[1:]
        x = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(self.model.device)
        for step, (now, after) in enumerate(pairwise(self._ladder)):
            dense, done = cache.attention(frames), step / (len(self._ladder) - 1)
            attention: SelfAttention = dense
            if history is not None:
                attention = history.over(key_reader(dense), [done] * frames)
            x = x + (after - now) * self._predict(case, x, now, attention).velocity.float()
        keys_values = self.commit_pass(case, x)
        if case.cache == FULL:
            assert isinstance(cache, KVCache)
            cache.rotated_keys.forget()
        elif keep:
            cache.commit(keys_values)
        return stats, x[0]

    @torch.inference_mode()
    def decode(self, x: Tensor) -> Tensor:
        """Decode latents x (f, c, h, w) to frames (t, 3, H, W), float32."""
        return StreamingDecoder(self.model.decoder).feed(x.to(self.model.dtype)).float()

    def held_bytes(self, case: SpeedCase) -> int:
        """Return the bytes of a case's cache.

        For the full history these are the bytes of the committed length, because the cache is
        allocated for the longest history.
        """
        if case.cache == FULL:
            return self.full_bytes(self.committed)
        return self.caches[case.cache].bytes

    def peak_of_generation(self, case: SpeedCase) -> int:
        """Return the peak bytes of making one more chunk, besides caches and model."""
        return peak_in_work(lambda: self.make(case), self.model.device)

    def peak_of_decoding(self) -> int:
        """Return the peak bytes of decoding one chunk."""
        latents = self.model.clip[: self.chunk_frames]
        return peak_in_work(lambda: self.decode(latents), self.model.device)

    def _sparse_history(self, case: SpeedCase, stats: SparseStats) -> SparseHistory | None:
        """Return sparse attention if the settings, or measurements, want it."""
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
        return SparseHistory(
            chosen, stats, sink_frames=SINK, min_keys=least, codes=codes,
            token_numbers=entry_numbers(cache),
        )  # fmt: skip

    def _open_codes(self, case: SpeedCase) -> None:
        """Open bucket codes for a cache whose keys are sorted by buckets and that has none
        itself.
        """
        cache, order = self.caches.get(case.cache), order_of(case)
        if cache and order not in TIME_ORDERS and not isinstance(cache, MergedCache):
            codes = SlotCodes(cache, open_buckets(order, cache.shape))
            self._codes.setdefault((case.cache, order), codes)


def order_of(case: SpeedCase) -> str:
    """Return the order in which a case's blocks hold the history's keys."""
    return (
        TIME_ORDERS[0] if case.sparsity.self_sparsity is None else case.sparsity.self_sparsity.order
    )
