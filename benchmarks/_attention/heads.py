"""What a window costs and loses when each head reads a part of it (Dummy Forcing).

Half of the heads read the newest latent frame alone, the others the sink or the rest of the window
(arXiv 2601.20499). One layer with Wan 1.3B's heads at 416x240 is timed on this processor; three of
its heads read the window, three the sink, and six are dummies. The demo makes the chunk after a
true history from the same noise, compared with the chunk of all heads over the whole history.
Beside the heads apart are a window whose heads read as many keys, and the paper's window of 4.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ...attention.cache.by_layer.dummy_heads import DummyHeads
from ...attention.cache.by_layer.head_kinds import DUMMY, SINK, WINDOW
from ...attention.cache.policy import CachePolicy, FullHistory, WindowSink
from ...attention.history import HistoryCache, open_cache
from ...attention.snapshot import Snapshot
from ...attention.storage.dense import DENSE
from ...attention.storage.shape import CacheShape
from ...model.preset import DEMO_FOLDER
from ...training.evaluation.kit import load_kit
from .._shared.paired import Prepare, median_interval, paired_seconds, ratio_interval
from .._shared.report import Results
from .chunk import DENSE_CASE, ChunkCase, measure_chunk
from .wan_shaped import WAN_1_3B

FRAMES, SINK_FRAMES, CHUNK = 21, 1, 3
APART, AS_MANY = "dummy heads, 21", "window of as many keys, 6"
SMALL_APART, SMALL = "dummy heads, 4", "window, 4"
WHOLE = "window, 21"
KINDS = (*[WINDOW] * 3, *[SINK] * 3, *[DUMMY] * 6)
POLICIES: Mapping[str, CachePolicy] = {
    WHOLE: WindowSink(FRAMES, SINK_FRAMES),
    APART: DummyHeads(FRAMES, SINK_FRAMES),
    AS_MANY: WindowSink(6, SINK_FRAMES),  # (3 x 20 + 3 x 1 + 6 x 1) / 12 is 5.75
    SMALL: WindowSink(4, SINK_FRAMES),
    SMALL_APART: DummyHeads(4, SINK_FRAMES),
}
SHAPE = CacheShape(1, 1, len(KINDS), WAN_1_3B.head_dim, 15, 26, CHUNK)
"""One layer of 1.3B at 416x240."""


@dataclass(frozen=True, slots=True)
class HeadsPlan:
    """Clips of the demo, and timed rounds of one layer; 0 leaves a part out."""

    clips: int = 48
    rounds: int = 9


def measure_heads(plan: HeadsPlan) -> Results:
    """Time one layer, and compare chunks of the demo."""
    results = Results("attention_heads")
    if plan.rounds:
        time_layer(plan.rounds, results)
    if plan.clips:
        compare_chunks(plan.clips, results)
    return results


def time_layer(rounds: int, results: Results) -> None:
    """Time a chunk's pass through one layer over each history, in processor time."""
    cases = {name: layer_case(policy) for name, policy in POLICIES.items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other would count as work
    with torch.inference_mode():
        seconds = paired_seconds(cases, rounds=rounds, budget_s=600.0, clock=time.process_time)
    torch.set_num_threads(threads)
    for name, values in seconds.items():
        results.samples[f"layer: {name}"] = values
        results.figures[f"layer: {name}"] = median_interval(values)
    for slow, quick in ((WHOLE, APART), (AS_MANY, APART), (SMALL, SMALL_APART)):
        ratio = ratio_interval(seconds[slow], seconds[quick])
        results.figures[f"layer: {slow} over {quick}"] = ratio
        results.at_least(f"{quick} is faster than {slow}", ratio.low, 1)


def layer_case(policy: CachePolicy) -> Prepare:
    """Prepare a chunk's attention to a full history of random keys."""
    cache = open_cache(SHAPE, policy, DENSE, None, "cpu")
    for frame in range(FRAMES):
        cache.commit([(_random(2 * frame, 1), _random(2 * frame + 1, 1))])
    if isinstance(policy, DummyHeads):
        tell_kinds(cache)
    q, k, v = (_random(900 + i, CHUNK) for i in range(3))
    return lambda: lambda: cache.attention(CHUNK)(0, q, k, v)


def tell_kinds(cache: HistoryCache) -> None:
    """Give the heads of a layer their kinds, which no commit of random keys tells."""
    known = cache.snapshot()
    cache.restore(Snapshot({**known.tensors, "kinds": torch.tensor([KINDS])}, known.facts))


def _random(seed: int, frames: int) -> torch.Tensor:
    size = 1, frames * SHAPE.frame_tokens, SHAPE.heads, SHAPE.head_dim
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def compare_chunks(clips: int, results: Results) -> None:
    """Compare the demo's chunk over each history with that of all heads over all of it."""
    kit = load_kit(DEMO_FOLDER)
    others = {name: ChunkCase(policy) for name, policy in POLICIES.items() if name != WHOLE}
    cases = {DENSE_CASE: ChunkCase(FullHistory()), **others}
    for seed in range(clips):
        for name, value in measure_chunk(kit, seed, FRAMES, cases).items():
            results.samples.setdefault(name, []).append(value)
    for name, values in results.samples.items():
        results.figures[name] = median_interval(values)
    for near, far in ((APART, AS_MANY), (SMALL_APART, SMALL)):
        pairs = zip(*(results.samples[f"PSNR: {name}"] for name in (near, far)), strict=True)
        gain = median_interval([one - other for one, other in pairs])
        results.figures[f"PSNR: {near} less {far}"] = gain
    low = results.figures[f"PSNR: {APART} less {AS_MANY}"].low
    results.at_least(f"{APART} is nearer to the whole history than a {AS_MANY}", low, 0)
