"""Other guidance for the first chunk of a shot, which has no past to go by."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import cfg, opening
from longtake.samplers.history.plan import planned_bytes
from longtake.samplers.loop import generate
from longtake.samplers.opening import with_opening
from longtake.samplers.planning.cost import peak_evaluations
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks, full_sequence, pyramid, rolling
from longtake.samplers.settings import RolloutSettings, TimedGuidance
from longtake.tests.support.tiny_model import TINY, randn, random_dit, settings

MODEL = local_denoiser(random_dit(), TINY)
LADDER = flow_ladder(3, 3.0)
OPENING = opening(2.0)


def shot(length: int = 12, **changes: Any) -> RolloutSettings:
    """Chunks of three latent frames without text guidance, unless `changes` say otherwise."""
    return settings(**{"schedule": causal_chunks(LADDER, 3), "length": length, **changes})


def latents(made: RolloutSettings) -> torch.Tensor:
    return torch.cat([chunk.latents for chunk in generate(made, MODEL)])


def test_the_first_chunk_is_that_of_a_shot_with_text_guidance() -> None:
    """The rest is made from it as of a shot without, and needs no KV cache more."""
    opened, guided = with_opening(shot(), OPENING), shot(guidance=cfg(2.0))
    assert torch.equal(latents(opened)[:3], latents(guided)[:3])
    history = [next(generate(guided, MODEL))]
    rest = torch.cat([chunk.latents for chunk in generate(shot(), MODEL, history)])
    torch.testing.assert_close(latents(opened)[3:], rest, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(latents(opened)[:3], latents(shot())[:3], atol=1e-3)
    needed = [planned_bytes(each, TINY, torch.float32) for each in (opened, shot(), guided)]
    assert needed[0] == needed[1] < needed[2]


def test_only_the_first_chunk_costs_more() -> None:
    steps, opened = len(LADDER) - 1, with_opening(shot(), OPENING)
    needed = [peak_evaluations(each, TINY, torch.float32) for each in (opened, shot())]
    assert needed == [steps + 1, steps + 1]
    made = [chunk.model_evals for chunk in generate(opened, MODEL)]
    assert made == [2 * steps, *[1 + steps] * 3]  # a commit belongs to the chunk after it


@pytest.mark.parametrize("changes", [
    {"known_frames": KnownFrames((KnownFrame(0, randn(TINY.out_channels, 4, 6)),))},
    {"schedule": rolling(LADDER, 3)},
    {"schedule": pyramid(LADDER, 1)},
    {"schedule": full_sequence(LADDER)},
    {"guidance_changes": (TimedGuidance(0, cfg(3.0)),)},
])  # fmt: skip
def test_what_has_a_past_or_other_guidance_has_no_opening(changes: dict[str, Any]) -> None:
    made = shot(**changes)
    assert with_opening(made, OPENING) is made


@pytest.mark.parametrize("start", [3, 6])
def test_later_changes_stay(start: int) -> None:
    changed = shot(guidance_changes=(TimedGuidance(start, cfg(3.0)),))
    opened = with_opening(changed, OPENING)
    scales = [opened.at(frame).guidance.text_scale for frame in (0, 3, 6, 9)]
    assert scales == [2.0, 3.0 if start == 3 else 1.0, 3.0, 3.0]


def test_a_longer_shot_is_not_guided_further() -> None:
    longer = with_opening(shot(length=3), OPENING).lasting(12)
    assert [longer.at(frame).guidance.text_scale for frame in (0, 3, 6)] == [2.0, 1.0, 1.0]
