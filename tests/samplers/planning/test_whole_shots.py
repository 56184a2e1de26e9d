"""A plan rehearses a few passes: no pass of the whole shot takes more, and none much less."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.cache.placed_windows import WaveWindow
from longtake.attention.cache.policy import MemoryBank, RebuiltWindow, WindowSink
from longtake.attention.coarse.window import CoarseWindow
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.model.config import DiTConfig
from longtake.samplers.conditioning.known_frames import from_latents
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.guidance import (
    DROP,
    Guidance,
    GuidanceTiming,
    SkippedLayers,
    extend,
    last,
    skip_in_negative,
    without_layers,
)
from longtake.samplers.guidance.presets import cfg, temporal
from longtake.samplers.planning.memory import rollout_memory
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import (
    asynchronous,
    causal_chunks,
    pyramid,
    rolling,
    trapezoid,
)
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.whole_shot import whole_shot_bytes

LIKE_1_3B = DiTConfig(1536, 8960, 12, 5, 4096)  # with 5 of its 30 layers
TWO, CHUNKS = flow_ladder(2, 3.0), causal_chunks(flow_ladder(2, 3.0), 3)
APART = replace(cfg(2.5), in_one_pass=False)
MANY_WORDS = DiTConfig(192, 768, 4, 5, 64)  # beside few tokens of a picture
FRESH = ContextNoise(0.1, fresh=True)
SHORT = temporal(0.5, last(2), scale=1.5)
FRONT = from_latents(torch.zeros(2, 16, 24, 40))


def shot(*prompts: int, **changes: Any) -> RolloutSettings:
    texts = tuple(TimedPrompt(at, torch.full((64, 4096), at / 9), str(at)) for at in (0, *prompts))
    timeline = PromptTimeline(texts, torch.zeros(64, 4096))
    return RolloutSettings(timeline, 24, 40, **{"schedule": CHUNKS, "length": 15, **changes})


@pytest.mark.parametrize(
    "settings",
    [
        shot(cache=RebuiltWindow(2, 1), guidance=SHORT),
        shot(schedule=pyramid(flow_ladder(1, 3.0), 0.5), length=6, cache=WindowSink(5, 3),
             context_noise=FRESH),
        shot(schedule=pyramid(flow_ladder(1, 3.0), 0.45), length=11, cache=WindowSink(5, 3),
             context_noise=FRESH),
        shot(6, 9, schedule=asynchronous(TWO, 3, 1), length=21, cache=WaveWindow(6, 1),
             guidance=APART, context_noise=FRESH),
        shot(4, schedule=causal_chunks(TWO, 2), length=14, cache=MemoryBank(7, 2, 1, 3),
             guidance=APART),
        shot(schedule=trapezoid(TWO), length=9, known_frames=FRONT, guidance=SHORT),
        shot(4, schedule=replace(CHUNKS, first_frames=1), length=14, cache=WindowSink(7, 2),
             guidance=SHORT),
        shot(1, 4, schedule=replace(rolling(TWO, 3), first_frames=1), length=8, guidance=APART),
    ],
    ids=["sink beside short history", "chunks committed together",
         "most of them at first", "wave", "bank",
         "views that differ later", "fewer frames first", "fewer frames first, two chunks at once"],
)  # fmt: skip
def test_a_whole_shot_takes_what_is_planned(settings: RolloutSettings) -> None:
    planned = rollout_memory(settings, LIKE_1_3B, torch.float32).total_bytes
    assert whole_shot_bytes(settings, LIKE_1_3B, torch.float32) == pytest.approx(planned, rel=0.05)


@pytest.mark.parametrize("guidance", [Guidance(), APART, cfg(2.5)], ids=["none", "apart", "cfg"])
@pytest.mark.parametrize("starts", [(), (3, 6)], ids=["one prompt", "three together"])
def test_the_prompts_in_work_together_are_planned(
    starts: tuple[int, ...], guidance: Guidance
) -> None:
    texts = tuple(TimedPrompt(at, torch.full((64, 64), at / 9)) for at in (0, *starts))
    schedule, prompts = rolling(flow_ladder(3, 3.0), 3), PromptTimeline(texts, torch.zeros(64, 64))
    settings = RolloutSettings(prompts, 12, 16, schedule, length=12, guidance=guidance)
    planned = rollout_memory(settings, MANY_WORDS, torch.float32).total_bytes
    whole = whole_shot_bytes(settings, MANY_WORDS, torch.float32)
    assert whole == pytest.approx(planned, rel=0.05)


LOW, HIGH = (0.0, 0.9), (0.9, 1.0)


@pytest.mark.parametrize(
    "guidance",
    [
        replace(temporal(0.5, last(2), scale=2.0, none=DROP), timing=GuidanceTiming(LOW)),
        extend(temporal(0.5, last(2), scale=2.0, none=DROP),
               without_layers(1.0, SkippedLayers((0, 4), HIGH))),
        extend(temporal(0.5, last(2), scale=2.0, none=DROP),
               skip_in_negative(cfg(2.0), SkippedLayers((2,), LOW))),
    ],
    ids=["at low levels", "own pass", "negative prompt's"],
)  # fmt: skip
def test_the_row_with_the_largest_pass_is_planned(guidance: Guidance) -> None:
    """Guidance adds branches in some rows, and skipped layers divide some passes."""
    settings = shot(cache=WindowSink(6, 3), guidance=guidance, schedule=CHUNKS)
    planned = rollout_memory(settings, LIKE_1_3B, torch.float32).total_bytes
    assert whole_shot_bytes(settings, LIKE_1_3B, torch.float32) == pytest.approx(planned, rel=0.05)


def test_a_past_that_is_partly_coarse_is_planned() -> None:
    config = replace(LIKE_1_3B, flow_map=True, coarse_past=True)
    settings = shot(cache=CoarseWindow(10, 1, 3), length=18, guidance=cfg(2.5))
    planned = rollout_memory(settings, config, torch.bfloat16).total_bytes
    assert whole_shot_bytes(settings, config, torch.bfloat16) == pytest.approx(planned, rel=0.05)


def test_a_last_chunk_of_fewer_frames_and_a_longer_history_is_planned() -> None:
    """In bfloat16 the rotation of keys takes more than the frames in work."""
    settings = shot(schedule=causal_chunks(TWO, 2), length=9, cache=RebuiltWindow(9, 3),
                    guidance=APART, storage=Packed(INT8, 4))  # fmt: skip
    planned = rollout_memory(settings, LIKE_1_3B, torch.bfloat16).total_bytes
    assert whole_shot_bytes(settings, LIKE_1_3B, torch.bfloat16) == pytest.approx(planned, rel=0.05)
