"""Bytes of the memories and seconds a chunk, after histories of several lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch

from ...model.preset import DEMO
from ...samplers.history.plan import bytes_of, cache_plans
from ...samplers.loop import Chunk
from ...training.evaluation.kit import Recipe, sample, settings_of
from .._shared.paired import Interval, Prepare, paired_seconds, ratio_interval
from .memories import WINDOW, Memory, kit_of

LENGTHS = (64, 1024, 10_000)
PROMPTS = [(0, "a red ball rolls over the grass")]
BUDGET_S = 240.0


def planned_megabytes(memory: Memory, length: int) -> float:
    """Megabytes of a memory in a shot of `length` latent frames."""
    kit = kit_of(memory.weights)
    settings = settings_of(kit, replace(memory.recipe, length=length), PROMPTS, 0)
    return bytes_of(cache_plans(settings, kit.config, torch.float32), length) / 1e6


def times_of_window(
    memories: Mapping[str, Memory], length: int, rounds: int
) -> dict[str, Interval]:
    """How many times as long a chunk takes as with the demo's window, after `length` frames."""
    history = [
        Chunk(i, DEMO.chunk_frames * i, torch.randn(DEMO.chunk_frames, 16, *_sides()))
        for i in range(length // DEMO.chunk_frames)
    ]
    cases = {name: _chunks(memory, history, rounds) for name, memory in memories.items()}
    seconds = paired_seconds(cases, rounds=rounds, budget_s=BUDGET_S)
    return {name: ratio_interval(seconds[name], seconds[WINDOW]) for name in memories}


def _chunks(memory: Memory, history: list[Chunk], rounds: int) -> Prepare:
    """The next chunk of a shot with such a history, each time it is called."""
    chunk = DEMO.chunk_frames
    length = chunk * (len(history) + rounds + 2)  # one that opens the shot, and a warm-up
    recipe = replace(memory.recipe, length=length)
    shot = sample(kit_of(memory.weights), recipe, PROMPTS, 0, history)
    with torch.inference_mode():
        next(shot)
    return lambda: torch.inference_mode()(partial(next, shot))


def _sides() -> tuple[int, int]:
    recipe = Recipe()
    return recipe.rows, recipe.columns
