"""Time and memory of a chunk after a long history: dense, windowed, merged, sparse.

The history is filled with what commit passes over true latents gave, looked at through a window and
repeated, so that every cache gets the same keys and values. Then each case makes whole chunks in
turn: all steps, the commit pass, the commit and the decoding. The embedded model at 128x128, one
branch. A long prompt is padded to the 512 tokens of Wan's, where AnnCA has something to do.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention.ann.choice import open_buckets
from ..attention.block_order import TIME_ORDERS
from ..attention.cache_policy import FullHistory
from ..attention.cache_shape import CacheShape
from ..attention.history_cache import HistoryCache, open_cache, planned_bytes
from ..attention.kv_storage import DENSE
from ..attention.select import fewest_keys
from ..attention.slot_codes import SlotCodes, entry_codes
from ..attention.sparse_cross import SparsePrompt
from ..attention.sparse_self import SparseHistory
from ..attention.sparse_stats import SparseStats
from ..attention.temp_cache import MergedCache
from ..model.dit import KeysValues, predict, project_text
from ..model.preset import DEMO, DEMO_FOLDER
from ..model.vae.streaming import StreamingDecoder
from ..samplers.ladder import flow_ladder
from ..training.dataset import encode_shots
from ..training.kit import Kit, load_kit
from ..training.world import Shot
from ._attention_cases import CASES, FULL, IN_WINDOW, SINK, WINDOW_CASE, Case, kept_in
from ._device import peak_in_work

CHUNK = DEMO.chunk_frames
LATENTS = 16  # rows and columns of 128x128 pixels
CLIP_FRAMES = 48  # of true latents, gone through again and again
VALUES = {"ball": "red", "time": "day", "terrain": "hills", "weather": "clear", "pan": "left"}
PADDED = 512  # tokens


class SpeedBench:
    """The model, its prompts, and the caches that the cases need, beside the window."""

    def __init__(self, longest: int, cases: Collection[Case]) -> None:
        kit = load_kit(DEMO_FOLDER)
        self.tree, self.vae, c = kit.dit, kit.vae, kit.config
        prompt = kit.text.encode("a red ball over hills at noon").embedding
        padded = F.pad(prompt, (0, 0, 0, PADDED - len(prompt)))
        self.texts = [project_text(self.tree, one[None, None]) for one in (prompt, padded)]
        side = LATENTS // 2
        self.shape = CacheShape(c.num_layers, 1, c.num_heads, c.head_dim, side, side, CHUNK)
        self.clip = true_latents(kit)
        self._prompts: dict[str, SparsePrompt] = {}  # what a rollout keeps while its prompt stays
        self.passed: list[tuple[KeysValues, ...]] = []  # of the clip, chunk by chunk
        known = {FULL: (FullHistory(), DENSE), **kept_in(self.shape)}
        wanted = {FULL, IN_WINDOW, *(case.cache for case in cases)}
        self.caches: dict[str, HistoryCache] = {
            name: open_cache(self.shape, *known[name], longest if name == FULL else None, "cpu")
            for name in known.keys() & wanted
        }
        self._codes: dict[tuple[str, str], SlotCodes] = {}  # by cache and order
        for case in cases:
            self._open_codes(case)

    def keep_only(self, cases: Collection[Case]) -> None:
        """Give back what no case needs any more."""
        wanted = {FULL, IN_WINDOW, *(case.cache for case in cases)}
        for name in self.caches.keys() - wanted:
            del self.caches[name]
        orders = {(case.cache, order_of(case)) for case in cases}
        for key in self._codes.keys() - orders:
            del self._codes[key]

    @property
    def committed(self) -> int:
        """Latent frames of history."""
        return self.caches[FULL].committed

    @torch.inference_mode()
    def fill(self, until: int) -> None:
        """Commit true latents, whole chunks, until at least that many are held."""
        while self.committed < until:
            at = self.committed % CLIP_FRAMES
            if len(self.passed) * CHUNK <= at:
                x = self.clip[at : at + CHUNK].unsqueeze(0)
                self.passed.append(self.commit_pass(CASES[WINDOW_CASE], x))
            for cache in self.caches.values():
                cache.commit(self.passed[at // CHUNK])
            for codes in self._codes.values():
                codes.update()

    def commit_pass(self, case: Case, x: Tensor) -> tuple[KeysValues, ...]:
        """Keys and values of finished latents."""
        attention = self.caches[case.cache].attention_of_commit((CHUNK,) * CHUNK)
        return predict(
            self.tree, x, torch.zeros(1, CHUNK), self.texts[case.long_prompt], attention,
            to_prompt=self._to_prompt(case), keep=True,
        ).keys_values  # fmt: skip

    def _to_prompt(self, case: Case) -> SparsePrompt | None:
        """Made once for all chunks, as in a rollout."""
        asked = case.sparsity.of_prompt
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
        cache, stats = self.caches[case.cache], SparseStats()
        history, to_prompt = self._sparse_history(case, stats), self._to_prompt(case)
        text = self.texts[case.long_prompt]
        ladder = flow_ladder(DEMO.steps, DEMO.shift)
        x = torch.randn(1, CHUNK, 16, LATENTS, LATENTS, generator=torch.Generator().manual_seed(0))
        for step, (now, after) in enumerate(pairwise(ladder)):
            attention = cache.attention(CHUNK)
            t = torch.full((1, CHUNK), 1000 * now)
            chosen = history.over(attention, [step / DEMO.steps] * CHUNK) if history else attention
            v = predict(self.tree, x, t, text, chosen, to_prompt=to_prompt).velocity
            x = x + (after - now) * v
        kept = self.commit_pass(case, x)
        if case.cache == FULL:
            cache._forget_rotated()  # type: ignore[attr-defined]
        elif keep:
            cache.commit(kept)
        return stats, x[0]

    @torch.inference_mode()
    def decode(self, x: Tensor) -> Tensor:
        """The frames (t, 3, H, W) of latents (f, c, h, w)."""
        return StreamingDecoder(self.vae).feed(x)

    def held_bytes(self, case: Case) -> int:
        """Bytes of a case's cache; of the full history's what it takes for so many latent frames,
        since it is there for the longest one from the beginning.
        """
        if case.cache == FULL:
            return planned_bytes(self.shape, FullHistory(), DENSE, self.committed + CHUNK)
        return self.caches[case.cache].bytes

    def peaks_in_work(self, case: Case) -> tuple[int, int]:
        """The most bytes that are taken at once beside all caches and the model: by making one more
        chunk, and by decoding it.
        """
        made: list[Tensor] = []
        device = self.caches[case.cache].device
        making = peak_in_work(lambda: made.append(self.make(case)[1]), device)
        return making, peak_in_work(lambda: self.decode(*made), device)

    def _sparse_history(self, case: Case, stats: SparseStats) -> SparseHistory | None:
        """Sparse attention where the settings, or what was measured, want it."""
        chosen, cache = case.sparsity.of_self, self.caches[case.cache]
        if chosen is None:
            return None
        least, _ = fewest_keys(chosen.fewest_keys, cache.device)
        if least is None:
            return None
        if chosen.order in TIME_ORDERS:
            codes = None
        elif isinstance(cache, MergedCache):
            codes = entry_codes(cache)
        else:
            codes = self._codes[case.cache, chosen.order].of
        return SparseHistory(chosen, stats, sink_frames=SINK, fewest_keys=least, codes=codes)

    def _open_codes(self, case: Case) -> None:
        """Buckets beside a cache whose keys are sorted by them and that has none of its own."""
        cache, order = self.caches[case.cache], order_of(case)
        if order not in TIME_ORDERS and not isinstance(cache, MergedCache):
            codes = SlotCodes(cache, open_buckets(order, cache.shape))
            self._codes.setdefault((case.cache, order), codes)


def order_of(case: Case) -> str:
    """The order in which a case's blocks have the history's keys."""
    return TIME_ORDERS[0] if case.sparsity.of_self is None else case.sparsity.of_self.order


@torch.inference_mode()
def true_latents(kit: Kit) -> Tensor:
    """CLIP_FRAMES latents (f, c, h, w) of 128x128: two rendered clips, one above the other."""
    shots = [Shot(((0, VALUES),), seed) for seed in (1, 2)]
    halves = encode_shots(kit.vae, shots, CLIP_FRAMES, 8 * LATENTS)  # (2, f, c, 8, 16)
    return torch.cat([*halves.float()], 2)
