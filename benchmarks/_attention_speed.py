"""Time and memory of a chunk after a long history: dense, windowed, merged, sparse.

The history is filled with what commit passes over true latents gave, looked at through a window and
repeated, so that every cache gets the same keys and values. Then each case makes whole chunks in
turn: all steps, the commit pass, the commit and the decoding. The embedded model at 128x128, one
branch. A long prompt is padded to the 512 tokens of Wan's, where AnnCA has something to do.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attention.cache_policy import FullHistory, WindowSink
from ..attention.cache_shape import CacheShape
from ..attention.history_cache import HistoryCache, open_cache, planned_bytes
from ..attention.kv_storage import DENSE
from ..attention.packed_store import Packed
from ..attention.quantize import INT8
from ..attention.select import fewest_keys
from ..attention.sparse_cross import SparsePrompt
from ..attention.sparse_self import SparseHistory
from ..attention.sparse_settings import SparseCross, SparseSelf, Sparsity
from ..attention.sparse_stats import SparseStats
from ..attention.temp_policy import ALIKE, TempCache
from ..model.dit import KeysValues, predict, project_text
from ..model.preset import DEMO, DEMO_FOLDER
from ..model.vae.streaming import StreamingDecoder
from ..samplers.ladder import flow_ladder
from ..training.dataset import encode_shots
from ..training.kit import Kit, load_kit
from ..training.world import Shot
from ._device import peak_in_work

CHUNK = DEMO.chunk_frames
LATENTS = 16  # rows and columns of 128x128 pixels
WINDOW = WindowSink(DEMO.window_frames + 3, 3)
CLIP_FRAMES = 48  # of true latents, gone through again and again
VALUES = {"ball": "red", "time": "day", "terrain": "hills", "weather": "clear", "pan": "left"}
DENSE_CASE, WINDOW_CASE, TEMP, AUTO, SPARSE, BOTH, DENSE_LONG = (
    "dense", "window + sink", "TempCache", "auto", "AnnSA", "all", "dense, long prompt",
)  # fmt: skip
PADDED = 512  # tokens
ALWAYS = SparseSelf(density=0.15, recall_floor=0.0, fewest_keys=0)


@dataclass(slots=True)
class Case:
    """A cache by its name, which cases may share, what is sparse over it, and whether the prompt
    is padded to Wan's length.
    """

    cache: str
    sparsity: Sparsity = Sparsity()
    long_prompt: bool = False

    @property
    def baseline(self) -> str:
        """The case with dense attention to the same."""
        return DENSE_LONG if self.long_prompt else DENSE_CASE


CASES = {
    DENSE_CASE: Case("full"),
    AUTO: Case("full", Sparsity(SparseSelf())),
    SPARSE: Case("full", Sparsity(ALWAYS)),
    WINDOW_CASE: Case("window"),
    "window, AnnCA": Case("window", Sparsity(None, SparseCross())),
    "window, int8": Case("int8"),
    TEMP: Case("kept"),
    BOTH: Case("kept", Sparsity(SparseSelf(), SparseCross())),
    DENSE_LONG: Case("full", long_prompt=True),
    "AnnCA, long prompt": Case("full", Sparsity(None, SparseCross()), long_prompt=True),
    "AnnCA, pruned, long prompt": Case(
        "full", Sparsity(None, SparseCross(prune=True)), long_prompt=True
    ),
    "all, long prompt": Case("kept", Sparsity(SparseSelf(), SparseCross()), long_prompt=True),
    "TempCache, int8": Case("kept int8"),
    "TempCache, merged": Case("merged exact"),
    "TempCache, merged by int8": Case("merged int8"),
    "TempCache, merged by LSH": Case("merged lsh"),
    "TempCache, merged by k-means": Case("merged k-means"),
}
LONG_CASES = (DENSE_CASE, AUTO, WINDOW_CASE, "window, int8", TEMP, "TempCache, int8", BOTH)
"""What is timed at histories that are long: the rest says no more there than before."""


class SpeedBench:
    """The model, its prompt, and the `wanted` caches beside the window."""

    def __init__(self, longest: int, wanted: Collection[str]) -> None:
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
        entries = equal_memory(self.shape)
        policies = {
            "window": WINDOW,
            "kept": TempCache(entries, sink_frames=3, gives_way=ALIKE),
            **{f"merged {name}": TempCache(entries, sink_frames=3, most_mass=1, index=name)
               for name in ("exact", "int8", "lsh", "k-means")},
        }  # fmt: skip
        self.caches: dict[str, HistoryCache] = {
            "full": open_cache(self.shape, FullHistory(), DENSE, longest, "cpu"),
            "int8": open_cache(self.shape, WINDOW, Packed(INT8, 3), None, "cpu"),
            "kept int8": open_cache(self.shape, policies["kept"], Packed(INT8), None, "cpu"),
            **{n: open_cache(self.shape, p, DENSE, None, "cpu") for n, p in policies.items()},
        }
        for name in self.caches.keys() - {"full", "window", *wanted}:
            del self.caches[name]

    @property
    def committed(self) -> int:
        """Latent frames of history."""
        return self.caches["full"].committed

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

        The full history is not added to, so that it stays as long as it says, but its rotated keys
        are made again, as after a commit; nor are the others without `keep`.
        """
        cache, stats = self.caches[case.cache], SparseStats()
        of_self, to_prompt = case.sparsity.of_self, self._to_prompt(case)
        history = sparse_history(of_self, cache, stats) if of_self else None
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
        if case.cache == "full":
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
        if case.cache == "full":
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


def sparse_history(
    chosen: SparseSelf, cache: HistoryCache, stats: SparseStats
) -> SparseHistory | None:
    """Sparse attention over a cache where the settings, or what was measured, want it."""
    least, _ = fewest_keys(chosen.fewest_keys, cache.device)
    if least is None:
        return None
    return SparseHistory(chosen, stats, sink_frames=3, fewest_keys=least)


def equal_memory(shape: CacheShape) -> int:
    """Latent frames' worth of entries that take no more bytes than the window."""
    most = planned_bytes(shape, WINDOW, DENSE, None)
    frames = WINDOW.window_frames
    while planned_bytes(shape, TempCache(frames, gives_way=ALIKE), DENSE, None) > most:
        frames -= 1
    return frames


@torch.inference_mode()
def true_latents(kit: Kit) -> Tensor:
    """CLIP_FRAMES latents (f, c, h, w) of 128x128: two rendered clips, one above the other."""
    shots = [Shot(((0, VALUES),), seed) for seed in (1, 2)]
    halves = encode_shots(kit.vae, shots, CLIP_FRAMES, 8 * LATENTS)  # (2, f, c, 8, 16)
    return torch.cat([*halves.float()], 2)
