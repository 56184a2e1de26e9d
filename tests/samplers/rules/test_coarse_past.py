"""What a coarse past cannot serve is refused in a sentence, and all else is served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.coarse.window import CoarseWindow
from longtake.attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from longtake.errors import Unsupported
from longtake.samplers import guidance as g
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.positions import TopAligned
from longtake.samplers.rules.reading import NewestFrames, RecencyBias
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.tiny_model import TINY, random_dit, settings, timeline

ANYFLOW = replace(TINY, flow_map=True, coarse_past=True)
SPARSE = SparseSelf(0.3, 0.3, (), 0.0, min_keys=0)


def shot(**changes: Any) -> RolloutSettings:
    return settings(**{"length": 12, "cache": CoarseWindow(9, 1, 3), **changes})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"memory": MemoryRules(NewestFrames(3))}, "coarse-rules"),
        ({"memory": MemoryRules(recency=RecencyBias())}, "coarse-rules"),
        ({"memory": MemoryRules(positions=TopAligned(21))}, "coarse-rules"),
        ({"sparsity": Sparsity(SPARSE)}, "coarse-sparse"),
        ({"guidance": g.temporal(1.0, g.View(g.AgeRange(1, 3)))}, "coarse-views"),
        ({"guidance": g.temporal(1.0, g.View(g.SinkFrames()))}, "coarse-views"),
        ({"rows": 2}, "coarse-size"),
    ],
)
def test_what_reads_frame_by_frame_is_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Unsupported) as refusal:
        shot(**changes)
    assert refusal.value.code == code


def test_a_model_without_coarse_patches_is_refused() -> None:
    with pytest.raises(Unsupported, match="no layer for them"):
        next(generate(shot(), local_denoiser(random_dit(), TINY)))


@torch.inference_mode()
@pytest.mark.parametrize(
    "changes",
    [
        {"guidance": g.vanilla(1.5)},
        {"guidance": g.vanilla(1.5, g.DROP)},
        {"guidance": g.temporal(1.0, g.View(g.AgeRange(1, 3), exact=True))},
        {"guidance": g.fractional(1.5, 0.4)},
        {"sparsity": Sparsity(None, SparseCross(from_tokens=0))},
        {"prompts": timeline(0, 6), "on_prompt_change": "re-cache"},
        {"prompts": timeline(0, 6), "on_prompt_change": "flush"},
    ],
    ids=["pure noise", "no history", "exact", "noisy", "sparse prompt", "re-cache", "flush"],
)
def test_all_else_is_served(changes: dict[str, Any]) -> None:
    """Views of pure noise and of exact parts are fine ones."""
    model = local_denoiser(random_dit(ANYFLOW), ANYFLOW)
    plain = torch.cat([chunk.latents for chunk in generate(shot(), model)])
    made = torch.cat([chunk.latents for chunk in generate(shot(**changes), model)])
    assert made.isfinite().all() and not torch.equal(made, plain)
