"""Recall of returning scenery where the far past is read in few steps and layers, on the demo.

The near window ends before the scenery left the picture. Commits see the near window alone, as they
do where nothing else is on the device. Every case but the full history attends to the same keys:
the newest as computed, the others int8 in main memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...attention.cache.policy import FullHistory
from ...attention.history import HistoryCache, open_cache
from ...attention.storage.dense import DENSE
from ...attention.storage.packed import Packed
from ...attention.storage.placement import InMainMemory
from ...attention.storage.quantize import INT8
from ...attention.storage.shape import CacheShape
from ...attention.weights import WeightedHistory
from ...model.dit import PassOptions, SelfAttention, TextKV, predict
from ...model.preset import DEMO
from ...samplers.history.extent import HistoryExtent
from ...samplers.rules.memory import MemoryRules
from ...samplers.rules.reading import FarReading, NewestFrames, ReadingMoment, ReadingRule
from ...samplers.schedule.levels import flow_ladder
from ...training.evaluation.kit import Kit
from ...training.evaluation.measures import entering_agreement
from .chunk import decode_chunk, psnr_moving
from .recall import CHUNK, CameraTurn, Clip, encode_prompt, there_and_back

FULL, NEAR, WHOLE, RETRIEVED = "full history", "near window", "far, whole", "far, retrieved"
NEAR_FRAMES = 12
"""Fewer than the shortest turn's 16: the entering scenery lies beyond the near window."""
SHARE = 0.25
FAR_STORAGE = Packed(INT8, 15, InMainMemory())
"""The newest 15 frames stay on the device as computed; older ones are int8 in main memory.

KV Cache Settings has both as `unquantised_frames` and `placement`. With all 21 frames of a real
model's near window, the device would take 1.48 times the bytes of a window without rotated copies.
"""
STORAGE = replace(FAR_STORAGE, recent_frames=9)
"""Of the demo's near window, the same share stays as computed."""


def far_rules(near_frames: int, share: float) -> MemoryRules:
    """The far past in the last two steps and every second layer of the last half."""
    far = FarReading(near_frames, last_steps=2, last_layers=0.5, layer_stride=2, share=share)
    return MemoryRules(commit=NewestFrames(near_frames), far=far)


def near_rules(near_frames: int) -> MemoryRules:
    """The near window alone, in all steps and layers."""
    return MemoryRules(commit=NewestFrames(near_frames), far=FarReading(near_frames, 0))


CASES: Mapping[str, MemoryRules] = {
    FULL: MemoryRules(), NEAR: near_rules(NEAR_FRAMES), WHOLE: far_rules(NEAR_FRAMES, 1.0),
    RETRIEVED: far_rules(NEAR_FRAMES, SHARE),
}  # fmt: skip


@torch.inference_mode()
def far_recall(kit: Kit, turn: CameraTurn, seed: int) -> dict[str, float]:
    """Return the agreement of re-entering scenery with the truth, for every case.

    Beside it stand the share of the history's keys that denoising reads and the PSNR of the chunk's
    moving pixels against the full history.
    """
    clip = there_and_back(kit, turn, seed)
    texts = {text: encode_prompt(kit, text) for text in (clip.away, clip.back)}
    commits = {memory.of_commits for memory in CASES.values()}
    filled = {rules: _fill(kit, clip, texts, rules) for rules in commits}
    past = clip.latents[:-CHUNK]
    figures, shown = {}, {}
    for name, memory in CASES.items():
        cache = filled[memory.of_commits]
        chunk = _denoise(kit, texts[clip.back], cache, memory.of_denoising, seed)
        shown[name] = decode_chunk(kit, past, chunk)
        figures[name] = entering_agreement(shown[name][-1], clip.truth)
        figures[f"density: {name}"] = density(memory, len(past), kit.config.num_layers)
        if name != FULL:
            figures[f"PSNR: {name}"] = psnr_moving(shown[name], shown[FULL])
    return figures


def density(memory: MemoryRules, history: int, layers: int) -> float:
    """Return the share of the history's keys that denoising reads, over all steps and layers."""
    rule = memory.far
    if rule is None:
        return 1.0
    far = max(0, history - rule.near_frames)
    places = rule.last_steps * len(rule.reading_layers(layers)) / (DEMO.steps * layers)
    return (history - far + places * math.ceil(rule.share * far)) / history


def _fill(
    kit: Kit, clip: Clip, texts: Mapping[str, TextKV], rules: Sequence[ReadingRule]
) -> HistoryCache:
    """Return the clip's whole history, committed under `rules`."""
    c, history = kit.config, len(clip.latents) - CHUNK
    side = clip.latents.shape[-2] // 2, clip.latents.shape[-1] // 2
    shape = CacheShape(c.num_layers, 2, c.num_heads, c.head_dim, *side, CHUNK)
    cache = open_cache(shape, FullHistory(), STORAGE if rules else DENSE, history, "cpu")
    for first in range(0, history, CHUNK):
        x = clip.latents[first : first + CHUNK].expand(2, CHUNK, *clip.latents.shape[1:])
        text = texts[clip.back if first >= clip.turn else clip.away]
        attention = _attention(cache, rules, DEMO.steps - 1, commit=True)
        options = PassOptions(keep=True)
        passed = predict(kit.dit, x, torch.zeros(2, CHUNK), text, attention, options)
        cache.commit(passed.keys_values)
    return cache


def _denoise(
    kit: Kit, text: TextKV, cache: HistoryCache, rules: Sequence[ReadingRule], seed: int
) -> Tensor:
    """Return the next chunk (f, c, h, w) from the seed's noise, with the demo's guidance."""
    size = CHUNK, 16, 2 * cache.shape.rows, 2 * cache.shape.columns
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    ladder = flow_ladder(DEMO.steps, DEMO.shift)
    for step, (now, after) in enumerate(zip(ladder, ladder[1:], strict=False)):
        t = torch.full((2, CHUNK), 1000 * now)
        attention = _attention(cache, rules, step)
        both = predict(kit.dit, x.expand(2, *size), t, text, attention).velocity
        x = x + (after - now) * (both[1] + DEMO.guidance_scale * (both[0] - both[1]))
    return x


def _attention(
    cache: HistoryCache, rules: Sequence[ReadingRule], step: int, *, commit: bool = False
) -> SelfAttention:
    """Attention of a chunk to the history under `rules`, in one step or in its commit."""
    seen = (CHUNK,) * CHUNK
    attention = cache.attention_of_commit(seen) if commit else cache.attention(CHUNK)
    if not rules:
        return attention
    ends = HistoryExtent(cache.next_frame, 0, cache.shape.layers)
    weighted: WeightedHistory = ends.weigh(
        attention, rules, ReadingMoment(CHUNK, step, DEMO.steps), range(CHUNK)
    )
    return weighted
