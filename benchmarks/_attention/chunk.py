"""The chunk after a true history with each memory and sparse attention, from the same noise.

Each chunk is compared with dense attention's chunk.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ...attention.ann.choice import open_buckets
from ...attention.cache.policy import CachePolicy, FullHistory, WindowSink
from ...attention.history import HistoryCache, open_cache
from ...attention.layout import key_reader
from ...attention.sparse.key_codes import SlotCodes, entry_numbers
from ...attention.sparse.prompt_attention import SparsePrompt
from ...attention.sparse.self_attention import SparseHistory
from ...attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from ...attention.sparse.stats import SparseStats
from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.quantize import INT4, INT8
from ...attention.storage.shape import CacheShape
from ...attention.temp_cache.policy import REDUNDANT, TempCache
from ...model.dit import PassOptions, SelfAttention, TextKV, project_text
from ...model.preset import DEMO
from ...model.vae.streaming import StreamingDecoder
from ...samplers.schedule.levels import flow_ladder
from ...training.evaluation.kit import Kit
from ...training.evaluation.measures import HELD_OUT_SEED, right_readings
from ...training.world.attributes import caption, random_values
from ...training.world.dataset import encode_shots
from ...training.world.scene import Shot
from .._shared.passes import Passes
from .._shared.similarity import ssim
from .drift import BALANCED

DENSE_CASE, TEMP = "dense", "TempCache"
CHUNK = DEMO.chunk_frames
MOVING = 2 / 255
DECODED_BEFORE = 6  # latent frames decoded first, to fill the decoder's memory


@dataclass(frozen=True, slots=True)
class ChunkCase:
    """How the history is kept and stored, and sparse attention over it."""

    policy: CachePolicy
    storage: Storage = DENSE
    sparsity: Sparsity = Sparsity()


def chunk_cases(history: int) -> dict[str, ChunkCase]:
    """Return all cases, the dense one first; budgets are shares of the history."""
    full, quarter, half = FullHistory(), max(4, history // 4), history // 2

    def always(density: float, order: str = "time", floor: float = 0.0) -> Sparsity:
        return Sparsity(SparseSelf(density, recall_floor=floor, order=order, min_keys=0))

    def temp_cache(frames: int) -> TempCache:
        return TempCache(frames, sink_frames=min(3, frames - 1), eviction=REDUNDANT)

    return {
        DENSE_CASE: ChunkCase(full),
        "window, 25 %": ChunkCase(WindowSink(quarter)),
        "window, 50 %": ChunkCase(WindowSink(half)),
        "window, 75 %": ChunkCase(WindowSink(3 * history // 4, 3)),
        "full, int8": ChunkCase(full, Packed(INT8, CHUNK)),
        TEMP: ChunkCase(BALANCED),
        "TempCache, int8": ChunkCase(BALANCED, Packed(INT8)),
        "TempCache, int4": ChunkCase(BALANCED, Packed(INT4)),
        "TempCache, 25 %": ChunkCase(temp_cache(quarter)),
        "TempCache, 50 %": ChunkCase(temp_cache(half)),
        "TempCache, 75 %": ChunkCase(temp_cache(3 * history // 4)),
        "TempCache, 50 %, merged": ChunkCase(TempCache(half, max_mass=1)),
        "TempCache, 50 %, merged, log-mass": ChunkCase(TempCache(half)),
        "AnnSA 30 %": ChunkCase(full, DENSE, always(0.3)),
        "AnnSA 30 % by LSH": ChunkCase(full, DENSE, always(0.3, "lsh")),
        "AnnSA 30 % by k-means": ChunkCase(full, DENSE, always(0.3, "k-means")),
        "AnnSA 30 %, recall 0.85": ChunkCase(full, DENSE, always(0.3, floor=0.85)),
        "AnnSA 15 %": ChunkCase(full, DENSE, always(0.15)),
        "AnnCA, padding": ChunkCase(full, DENSE, Sparsity(None, SparseCross())),
        "AnnCA, pruned": ChunkCase(full, DENSE, Sparsity(None, SparseCross(True, 4))),
        "all": ChunkCase(
            BALANCED, DENSE, replace(always(0.3, floor=0.85), prompt_sparsity=SparseCross())
        ),
    }  # fmt: skip


@torch.inference_mode()
def measure_chunk(
    kit: Kit, seed: int, history: int, cases: Mapping[str, ChunkCase]
) -> dict[str, float]:
    """Return likeness, adherence, density and recall of every case after one clip's history."""
    rng = random.Random(HELD_OUT_SEED + 960_000 + seed)
    values = random_values(rng)
    shot = Shot(((0, values),), rng.randrange(2**31))
    past = encode_shots(kit.vae, [shot], history, DEMO.width)[0].float()
    words = caption(values, rng)
    passes = Passes(kit, [(0, words)])
    text = project_text(kit.dit, kit.text.encode(words).embedding[None, None])
    c, side = kit.config, (past.shape[-2] // 2, past.shape[-1] // 2)
    shape = CacheShape(c.num_layers, 1, c.num_heads, c.head_dim, *side, CHUNK)
    caches = {name: open_cache(shape, case.policy, case.storage, history + CHUNK, "cpu")
              for name, case in cases.items()}  # fmt: skip
    coded = {name: codes_of(caches[name], case) for name, case in cases.items()}
    fill(passes, text, past, caches, coded)
    figures, chunks = {}, {}
    for name, case in cases.items():
        stats, prompt = SparseStats(), case.sparsity.prompt_sparsity
        cross = None if prompt is None else SparsePrompt(prompt)
        chunks[name] = denoise(passes, text, caches[name], case, (stats, cross, coded[name]), seed)
        if stats.density is not None:
            figures[f"density: {name}"] = stats.density
            figures[f"recall: {name}"] = 1.0 if stats.recall is None else stats.recall
            figures[f"fallbacks: {name}"] = float(stats.dense_fallbacks)
        if cross is not None:
            figures[f"prompt tokens: {name}"] = cross.share or 1.0
    return {**likeness(kit, past, chunks, values), **figures}


def likeness(
    kit: Kit, past: Tensor, chunks: dict[str, Tensor], values: dict[str, str]
) -> dict[str, float]:
    """Compare each case's chunk with dense attention's chunk."""
    pictures = {name: decode_chunk(kit, past, chunk) for name, chunk in chunks.items()}
    right = {name: _right(kit, video, values) for name, video in pictures.items()}
    dense, shown = chunks[DENSE_CASE], pictures[DENSE_CASE]
    figures = {"adherence: dense itself": right[DENSE_CASE]}
    for name in [name for name in chunks if name != DENSE_CASE]:
        figures[f"PSNR: {name}"] = psnr_moving(pictures[name], shown)
        figures[f"SSIM: {name}"] = ssim(pictures[name][1:], shown[1:])
        figures[f"error: {name}"] = float(((chunks[name] - dense) ** 2).mean() / dense.var())
        figures[f"adherence: {name}"] = right[name] - right[DENSE_CASE]
    return figures


def _right(kit: Kit, video: Tensor, values: dict[str, str]) -> float:
    flags = right_readings(kit, video, [1], values).values()
    return sum(map(sum, flags)) / len(flags)


def codes_of(cache: HistoryCache, case: ChunkCase) -> SlotCodes | None:
    """Return bucket codes for a case that sorts keys by buckets, else None."""
    chosen = case.sparsity.self_sparsity
    if chosen is None or chosen.order == "time":
        return None
    return SlotCodes(cache, open_buckets(chosen.order, cache.shape))


def fill(
    passes: Passes, text: TextKV, past: Tensor, caches: dict[str, HistoryCache],
    coded: dict[str, SlotCodes | None],
) -> None:  # fmt: skip
    """Commit the history, with dense attention's keys and values, to all caches."""
    for first in range(0, len(past), CHUNK):
        x, at, seen = past[None, first : first + CHUNK], (first, 0.0), (CHUNK,) * CHUNK
        attention = caches[DENSE_CASE].attention_of_commit(seen)
        prediction = passes.predict(x, at, text, attention, PassOptions(keep=True))
        for name, cache in caches.items():
            observed = cache.attention_of_commit(seen)
            if observed.is_observed:
                passes.predict(x, at, text, observed)  # records attention
            cache.commit(prediction.keys_values)
            codes = coded[name]
            if codes is not None:
                codes.update()


def denoise(  # noqa: PLR0913
    passes: Passes, text: TextKV, cache: HistoryCache, case: ChunkCase,
    tools: tuple[SparseStats, SparsePrompt | None, SlotCodes | None], seed: int,
) -> Tensor:  # fmt: skip
    """Run all steps of the next chunk (f, c, h, w) from the seed's noise."""
    stats, cross, codes = tools
    chosen = case.sparsity.self_sparsity
    history = chosen and SparseHistory(
        chosen, stats, sink_frames=0, min_keys=0,
        codes=None if codes is None else codes.of_layer, token_numbers=entry_numbers(cache),
    )  # fmt: skip
    ladder = flow_ladder(DEMO.steps, DEMO.shift)
    size = 1, CHUNK, 16, 2 * cache.shape.rows, 2 * cache.shape.columns
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    for step, (now, after) in enumerate(pairwise(ladder)):
        attention = cache.attention(CHUNK)
        over: SelfAttention = attention
        if history:
            over = history.over(key_reader(attention), [step / DEMO.steps] * CHUNK)
        at, options = (cache.committed, now), PassOptions(to_prompt=cross)
        x = x + (after - now) * passes.predict(x, at, text, over, options).velocity
    return x[0]


def decode_chunk(kit: Kit, past: Tensor, chunk: Tensor) -> Tensor:
    """Return the chunk's frames (t, 3, H, W), preceded by the last frame before the chunk."""
    decoder = StreamingDecoder(kit.vae)
    before = decoder.feed(past[-DECODED_BEFORE:])
    return torch.cat([before[-1:], decoder.feed(chunk)])


def psnr_moving(video: Tensor, truth: Tensor) -> float:
    """Return PSNR in dB over pixels that change from frame to frame in `truth` (t, 3, H, W)."""
    moving = ((truth[1:] - truth[:-1]).abs().amax(1, keepdim=True) > MOVING).expand_as(truth[1:])
    error = ((video[1:] - truth[1:])[moving] ** 2).mean() if moving.any() else torch.zeros(1)
    return float(-10 * torch.log10(error.clamp(min=1e-8)))
