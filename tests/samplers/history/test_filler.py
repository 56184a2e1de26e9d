"""Commits compute no more than what the cache stores or looks at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.policy import (
    CachePolicy,
    FullHistory,
    MemoryBank,
    MostAttended,
    RebuiltWindow,
    WindowSink,
)
from longtake.attention.recall.window import RecallWindow
from longtake.attention.temp_cache.policy import TempCache
from longtake.model.dit import Prediction
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.evaluator import Evaluator
from longtake.samplers.guidance.presets import cfg, vanilla
from longtake.samplers.loop import Chunk, generate
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.tiny_model import TINY, random_dit, settings

CONFIG = replace(TINY, num_layers=3)
POLICIES: dict[str, tuple[CachePolicy, bool]] = {
    "window": (WindowSink(6, 1), False),
    "full": (FullHistory(), False),
    "rebuilt": (RebuiltWindow(6, 1), False),
    "bank": (MemoryBank(6, 3), False),
    "merged": (TempCache(6, sink_frames=1), True),
    "attended": (MostAttended(6, 1), True),
    "memories": (TetherCache(6, 1), True),
    "heads apart": (DummyHeads(6, 1), True),
    "content": (RecallWindow(9, 1, recall_frames=3, by="content"), False),
}
"""Each policy, and whether its cache looks at the attention of every layer of a commit."""


def shot(cache: CachePolicy) -> RolloutSettings:
    guidance = vanilla(1.5) if isinstance(cache, WindowSink) else cfg(2.0)
    return settings(length=15, cache=cache, guidance=guidance)


def run(chosen: RolloutSettings) -> list[Chunk]:
    return list(generate(chosen, local_denoiser(random_dit(CONFIG), CONFIG)))


def evaluate_whole(self: Evaluator, *inputs: Any, **options: Any) -> Prediction:
    return PLAIN(self, *inputs, **{**options, "whole": True})


PLAIN = Evaluator.evaluate


@pytest.mark.parametrize("name", POLICIES)
def test_commits_that_end_early_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, ends = shot(POLICIES[name][0]), set[bool]()

    def note(self: Evaluator, *inputs: Any, **options: Any) -> Prediction:
        prediction = PLAIN(self, *inputs, **options)
        if options.get("keep"):
            ends.add(not len(prediction.velocity))
        return prediction

    monkeypatch.setattr(Evaluator, "evaluate", note)
    ours = run(chosen)
    monkeypatch.setattr(Evaluator, "evaluate", evaluate_whole)
    whole = run(chosen)
    assert (False in ends) == POLICIES[name][1]  # prompts of their own have plain windows
    assert len(ours) == 5
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(ours, whole, strict=True))
