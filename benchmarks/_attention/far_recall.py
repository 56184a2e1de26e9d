"""Recall of returning scenery by memories of a far past, in the sampling loop, on the demo.

A true history goes through the loop chunk by chunk, so each memory makes its own commits. Then the
loop makes one chunk, with the same noise for all. Three memories read the far past in few steps and
layers; their near window ends before the scenery left the picture. The last one fetches, once a
chunk, the past frames that look like the newest frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...attention.cache.policy import CachePolicy, FullHistory, WindowSink
from ...attention.recall.window import RecallWindow
from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.placement import InMainMemory
from ...attention.storage.quantize import INT8
from ...model.preset import DEMO
from ...samplers.rules.memory import MemoryRules
from ...samplers.rules.reading import FarReading, NewestFrames
from ...training.evaluation.kit import Kit, Recipe, sample
from ...training.evaluation.measures import as_chunks, entering_agreement
from ...training.evaluation.returns import CHUNK, CameraTurn, there_and_back
from .chunk import decode_chunk, psnr_moving

FULL, WINDOW, RECALLED = "full history", "window of 21", "window with 9 recalled"
NEAR, WHOLE, RETRIEVED = "near window", "far, whole", "far, retrieved"
NEAR_FRAMES = 12
"""Fewer than the shortest turn's 16: the entering scenery lies beyond the near window."""
SHARE = 0.25
WINDOW_FRAMES, RECALL_FRAMES = 21, 9
FAR_STORAGE = Packed(INT8, 15, InMainMemory())
"""The newest 15 frames stay on the device as computed; older ones are int8 in main memory.

KV Cache Settings has both as `unquantised_frames` and `placement`. With all 21 frames of a real
model's near window, the device would take 1.48 times the bytes of a window without rotated copies.
"""
STORAGE = replace(FAR_STORAGE, recent_frames=9)
"""Of the demo's near window, the same share stays as computed."""
RECALL = RecallWindow(WINDOW_FRAMES, 0, RECALL_FRAMES, by="content")
RECALL_STORAGE = Packed(INT8, WINDOW_FRAMES - RECALL_FRAMES - 1)
"""The frames recalled and the oldest of the newest are int8 on the device, as in the archive."""


@dataclass(frozen=True, slots=True)
class FarMemory:
    """How the history is kept, stored and read."""

    policy: CachePolicy = FullHistory()
    storage: Storage = STORAGE
    rules: MemoryRules = MemoryRules()


def far_rules(near_frames: int, share: float) -> MemoryRules:
    """The far past in the last two steps and every second layer of the last half."""
    far = FarReading(near_frames, last_steps=2, last_layers=0.5, layer_stride=2, share=share)
    return MemoryRules(commit=NewestFrames(near_frames), far=far)


def near_rules(near_frames: int) -> MemoryRules:
    """The near window alone, in all steps and layers."""
    return MemoryRules(commit=NewestFrames(near_frames), far=FarReading(near_frames, 0))


MEMORIES: Mapping[str, FarMemory] = {
    FULL: FarMemory(storage=DENSE),
    WINDOW: FarMemory(WindowSink(WINDOW_FRAMES), DENSE),
    RECALLED: FarMemory(RECALL, RECALL_STORAGE),
    NEAR: FarMemory(rules=near_rules(NEAR_FRAMES)),
    WHOLE: FarMemory(rules=far_rules(NEAR_FRAMES, 1.0)),
    RETRIEVED: FarMemory(rules=far_rules(NEAR_FRAMES, SHARE)),
}


@torch.inference_mode()
def far_recall(kit: Kit, turn: CameraTurn, seed: int, names: Sequence[str]) -> dict[str, float]:
    """Return the agreement of re-entering scenery with the truth, for the memories of `names`.

    Beside it stand the share of the history's keys that denoising reads and the PSNR of the chunk's
    moving pixels against the full history.
    """
    clip = there_and_back(kit, turn, seed)
    past = clip.latents[:-CHUNK]
    figures, shown = {}, dict[str, Tensor]()
    for name in dict.fromkeys((FULL, *names)):
        memory = MEMORIES[name]
        recipe = Recipe(
            length=len(clip.latents), cache=memory.policy, storage=memory.storage,
            memory=memory.rules,
        )  # fmt: skip
        (chunk,) = sample(kit, recipe, clip.prompts, seed, as_chunks(past))
        shown[name] = decode_chunk(kit, past, chunk.latents)
        figures[name] = entering_agreement(shown[name][-1], clip.truth)
        figures[f"density: {name}"] = density(memory, len(past), kit.config.num_layers)
        if name != FULL:
            figures[f"PSNR: {name}"] = psnr_moving(shown[name], shown[FULL])
    return figures


def density(memory: FarMemory, history: int, layers: int) -> float:
    """Return the share of the history's keys that denoising reads, over all steps and layers."""
    if memory.policy.limit is not None:
        return min(1.0, memory.policy.limit / history)
    rule = memory.rules.far
    if rule is None:
        return 1.0
    far = max(0, history - rule.near_frames)
    places = rule.last_steps * len(rule.reading_layers(layers)) / (DEMO.steps * layers)
    return (history - far + places * math.ceil(rule.share * far)) / history
