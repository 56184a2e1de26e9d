"""`longtake bench attention_quality`: what merged and sparse attention do to the picture.

The chunk after a true history of 21 and 63 latent frames, from the same noise, against dense
attention to all of it; the keys and values of the history are the same for all.

Embedded model, 96x64, one process of one thread. PSNR is over pixels that move, in dB; error is the
chunk's squared error over its variance; adherence is the share of right readings less dense
attention's. Then rollouts of the model's own, for adherence and drift (`_attention_drift.py`). What
is remembered at longer lengths: `attention_recall`.

    python -m longtake.benchmarks.attention_quality --clips 2 --latents LATENTS.safetensors

is the same with options; with a file of real Wan 2.1 latents it also measures one layer on keys as
redundant as those (`_attention_synthetic.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import click
import torch
from rich.console import Console
from torch import Tensor

from ..attention.ann.choice import open_buckets
from ..attention.cache_policy import CachePolicy, FullHistory, WindowSink
from ..attention.cache_shape import CacheShape
from ..attention.history_cache import HistoryCache, open_cache
from ..attention.kv_storage import DENSE, Storage
from ..attention.packed_store import Packed
from ..attention.quantize import INT4, INT8
from ..attention.slot_codes import SlotCodes
from ..attention.sparse_cross import SparsePrompt
from ..attention.sparse_self import SparseHistory
from ..attention.sparse_settings import SparseCross, SparseSelf, Sparsity
from ..attention.sparse_stats import SparseStats
from ..attention.temp_cache import MergedCache
from ..attention.temp_policy import ALIKE, TempCache
from ..model.dit import TextKV, predict, project_text
from ..model.preset import DEMO, DEMO_FOLDER
from ..model.vae.streaming import StreamingDecoder
from ..samplers.ladder import flow_ladder
from ..training.attributes import caption, random_values
from ..training.command import reporting
from ..training.dataset import encode_shots
from ..training.estimate import estimate
from ..training.kit import Kit, load_kit
from ..training.measures import HELD_OUT_SEED, right_readings
from ..training.world import Shot
from . import _attention_synthetic as synthetic
from ._attention_drift import BALANCED, MEMORIES, rolled
from ._paired import median_interval
from ._report import Results

CHUNK = DEMO.chunk_frames
TEMP = "TempCache"
JUDGED = (TEMP, "TempCache, int8", "AnnSA 30 %, recall 0.85", "all")
MOVING = 2 / 255
DECODED_BEFORE = 6  # latent frames, so that the decoder has its memory


@dataclass(frozen=True, slots=True)
class Plan:
    """Histories in latent frames, and how many clips of each; rollouts, and their length."""

    histories: tuple[int, ...] = (21, 63)
    clips: int = 8
    rollouts: int = 8
    rolled_frames: int = 120
    latents: Path | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """What keeps the history, how, and what is sparse over it."""

    policy: CachePolicy
    storage: Storage = DENSE
    sparsity: Sparsity = Sparsity()


def chunk_cases(history: int) -> dict[str, Case]:
    """Every way that is compared, the dense one first; budgets are shares of the history."""
    full, quarter, half = FullHistory(), max(4, history // 4), history // 2

    def always(density: float, order: str = "time", floor: float = 0.0) -> Sparsity:
        return Sparsity(SparseSelf(density, recall_floor=floor, order=order, fewest_keys=0))

    def kept(frames: int) -> TempCache:
        return TempCache(frames, sink_frames=min(3, frames - 1), gives_way=ALIKE)

    return {
        "dense": Case(full),
        "window, 25 %": Case(WindowSink(quarter)),
        "window, 50 %": Case(WindowSink(half)),
        "window, 75 %": Case(WindowSink(3 * history // 4, 3)),
        "full, int8": Case(full, Packed(INT8, CHUNK)),
        TEMP: Case(BALANCED),
        "TempCache, int8": Case(BALANCED, Packed(INT8)),
        "TempCache, int4": Case(BALANCED, Packed(INT4)),
        "TempCache, 25 %": Case(kept(quarter)),
        "TempCache, 50 %": Case(kept(half)),
        "TempCache, 75 %": Case(kept(3 * history // 4)),
        "TempCache, 50 %, merged": Case(TempCache(half, most_mass=1)),
        "TempCache, 50 %, merged, log-mass": Case(TempCache(half)),
        "AnnSA 30 %": Case(full, DENSE, always(0.3)),
        "AnnSA 30 % by LSH": Case(full, DENSE, always(0.3, "lsh")),
        "AnnSA 30 % by k-means": Case(full, DENSE, always(0.3, "k-means")),
        "AnnSA 30 %, recall 0.85": Case(full, DENSE, always(0.3, floor=0.85)),
        "AnnSA 15 %": Case(full, DENSE, always(0.15)),
        "AnnCA, padding": Case(full, DENSE, Sparsity(None, SparseCross())),
        "AnnCA, pruned": Case(full, DENSE, Sparsity(None, SparseCross(True, 4))),
        "all": Case(BALANCED, DENSE, replace(always(0.3, floor=0.85), of_prompt=SparseCross())),
    }  # fmt: skip


def main(json_path: Path | None) -> None:
    """Run the suite, show it, and write them to `json_path`, also after each clip."""
    results = Results("attention_quality")
    measure(Plan(), results, lambda: None if json_path is None else results.save(json_path))
    results.show(Console(soft_wrap=True))


def measure(plan: Plan, results: Results, keep: Callable[[], None]) -> None:
    """Every clip after every history, then the targets."""
    kit = load_kit(DEMO_FOLDER)
    for seed in range(plan.clips):
        for history in plan.histories:
            note(results, f", history {history}", judged_chunk(kit, seed, history))
        keep()
    if plan.latents is not None:
        latents = synthetic.real_latents(plan.latents)
        for seed in range(plan.clips):
            note(results, ", real latents", synthetic.measured(latents, seed))
    for history in plan.histories:
        for name in JUDGED:
            at = f"{name}, history {history}"
            low = results.figures[f"PSNR: {at}"].low
            results.at_least(f"{name} is within 28 dB of dense at {history}", low, 28)
            lost = estimate(results.samples[f"adherence: {at}"]).low
            results.at_least(f"{name} keeps adherence within 2 points at {history}", lost, -0.02)
    roll(plan, results, kit, keep)


def roll(plan: Plan, results: Results, kit: Kit, keep: Callable[[], None]) -> None:
    """Rollouts of the model's own."""
    suffix = f", rollout of {plan.rolled_frames}"
    for seed in range(plan.rollouts):
        with torch.inference_mode():
            note(results, suffix, rolled(kit, seed, plan.rolled_frames))
        keep()
    for name in [name for name in MEMORIES if plan.rollouts and name != "dense"]:
        lost = estimate(results.samples[f"adherence: {name}{suffix}"]).low
        results.at_least(f"{name} keeps adherence within 2 points in rollouts", lost, -0.02)
    keep()


def note(results: Results, suffix: str, found: dict[str, float]) -> None:
    """Add a clip's figures."""
    for name, value in found.items():
        results.samples.setdefault(name + suffix, []).append(value)
        results.figures[name + suffix] = median_interval(results.samples[name + suffix])


@torch.inference_mode()
def judged_chunk(kit: Kit, seed: int, history: int) -> dict[str, float]:
    """PSNR, error, adherence, density and recall of every case after one clip's history."""
    rng = random.Random(HELD_OUT_SEED + 960_000 + seed)
    values = random_values(rng)
    shot = Shot(((0, values),), rng.randrange(2**31))
    past = encode_shots(kit.vae, [shot], history, DEMO.width)[0].float()
    words = kit.text.encode(caption(values, rng)).embedding
    text = project_text(kit.dit, words[None, None])
    c, side = kit.config, (past.shape[-2] // 2, past.shape[-1] // 2)
    shape = CacheShape(c.num_layers, 1, c.num_heads, c.head_dim, *side, CHUNK)
    cases = chunk_cases(history)
    caches = {name: open_cache(shape, case.policy, case.storage, history + CHUNK, "cpu")
              for name, case in cases.items()}  # fmt: skip
    coded = {name: codes_of(caches[name], case) for name, case in cases.items()}
    fill(kit, text, past, caches, coded)
    found, chunks = {}, {}
    for name, case in cases.items():
        stats, prompt = SparseStats(), case.sparsity.of_prompt
        cross = None if prompt is None else SparsePrompt(prompt)
        chunks[name] = denoised(kit, text, caches[name], case, (stats, cross, coded[name]), seed)
        if stats.density is not None:
            found[f"density: {name}"] = stats.density
            found[f"recall: {name}"] = 1.0 if stats.recall is None else stats.recall
            found[f"fallbacks: {name}"] = float(stats.dense_fallbacks)
        if cross is not None:
            found[f"prompt tokens: {name}"] = cross.share or 1.0
    return {**likeness(kit, past, chunks, values), **found}


def likeness(
    kit: Kit, past: Tensor, chunks: dict[str, Tensor], values: dict[str, str]
) -> dict[str, float]:
    """How each case's chunk compares with that of dense attention."""
    pictures = {name: decoded(kit, past, chunk) for name, chunk in chunks.items()}
    right = {name: _right(kit, video, values) for name, video in pictures.items()}
    dense, found = chunks["dense"], {"adherence: dense itself": right["dense"]}
    for name in [name for name in chunks if name != "dense"]:
        found[f"PSNR: {name}"] = psnr_moving(pictures[name], pictures["dense"])
        found[f"error: {name}"] = float(((chunks[name] - dense) ** 2).mean() / dense.var())
        found[f"adherence: {name}"] = right[name] - right["dense"]
    return found


def _right(kit: Kit, video: Tensor, values: dict[str, str]) -> float:
    flags = right_readings(kit, video, [1], values).values()
    return sum(map(sum, flags)) / len(flags)


def codes_of(cache: HistoryCache, case: Case) -> SlotCodes | None:
    """Bucket codes where a case sorts by them."""
    chosen = case.sparsity.of_self
    if chosen is None or chosen.order == "time":
        return None
    return SlotCodes(cache, open_buckets(chosen.order, cache.shape))


def fill(
    kit: Kit, text: TextKV, past: Tensor, caches: dict[str, HistoryCache],
    coded: dict[str, SlotCodes | None],
) -> None:  # fmt: skip
    """Commit the history to all, with the keys and values of dense attention."""
    for first in range(0, len(past), CHUNK):
        x, t = past[None, first : first + CHUNK], torch.zeros(1, CHUNK)
        seen = (CHUNK,) * CHUNK
        kept = predict(
            kit.dit, x, t, text, caches["dense"].attention_of_commit(seen), keep=True
        ).keys_values
        for name, cache in caches.items():
            if isinstance(cache, MergedCache) and cache.policy.merges:
                predict(kit.dit, x, t, text, cache.attention_of_commit(seen))  # measures it
            cache.commit(kept)
            codes = coded[name]
            if codes is not None:
                codes.update()


def denoised(  # noqa: PLR0913
    kit: Kit, text: TextKV, cache: HistoryCache, case: Case,
    tools: tuple[SparseStats, SparsePrompt | None, SlotCodes | None], seed: int,
) -> Tensor:  # fmt: skip
    """All steps of the next chunk (f, c, h, w) from the seed's noise."""
    stats, cross, codes = tools
    chosen = case.sparsity.of_self
    history = chosen and SparseHistory(
        chosen, stats, sink_frames=0, fewest_keys=0, codes=None if codes is None else codes.of
    )
    ladder = flow_ladder(DEMO.steps, DEMO.shift)
    size = 1, CHUNK, 16, 2 * cache.shape.rows, 2 * cache.shape.columns
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    for step, (now, after) in enumerate(pairwise(ladder)):
        attention = cache.attention(CHUNK)
        over = history.over(attention, [step / DEMO.steps] * CHUNK) if history else attention
        t = torch.full((1, CHUNK), 1000 * now)
        x = x + (after - now) * predict(kit.dit, x, t, text, over, to_prompt=cross).velocity
    return x[0]


def decoded(kit: Kit, past: Tensor, chunk: Tensor) -> Tensor:
    """The chunk's frames (t, 3, H, W), the last one before it in front."""
    decoder = StreamingDecoder(kit.vae)
    before = decoder.feed(past[-DECODED_BEFORE:])
    return torch.cat([before[-1:], decoder.feed(chunk)])


def psnr_moving(video: Tensor, truth: Tensor) -> float:
    """PSNR in dB over pixels that change from frame to frame in `truth` (t, 3, H, W)."""
    moving = ((truth[1:] - truth[:-1]).abs().amax(1, keepdim=True) > MOVING).expand_as(truth[1:])
    error = ((video[1:] - truth[1:])[moving] ** 2).mean() if moving.any() else torch.zeros(1)
    return float(-10 * torch.log10(error.clamp(min=1e-8)))


@click.command(help=__doc__)
@click.option("--clips", type=click.IntRange(1), default=8, show_default=True)
@click.option("--rollouts", type=click.IntRange(0), default=8, show_default=True)
@click.option("--latents", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(clips: int, rollouts: int, latents: Path | None, json_path: Path | None) -> None:
    """Command line."""
    results = Results("attention_quality")
    with reporting():
        plan = Plan(clips=clips, rollouts=rollouts, latents=latents)
        measure(plan, results, lambda: None if json_path is None else results.save(json_path))
        results.show(Console(soft_wrap=True))


if __name__ == "__main__":
    command()
