"""AnyFlow by its preset, against diffusers' own pipelines: any number of steps, a coarse past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import RebuiltWindow
from longtake.attention.coarse.window import CoarseWindow
from longtake.model.families.table import BY_KEY
from longtake.model.preset import overridden
from longtake.model.preset_cache import preset_cache
from longtake.samplers.conditioning.known_frames import from_latents
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.history.frames import HistoryFrames
from longtake.samplers.loop import Chunk, Loop
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.model import anyflow
from longtake.tests.support.samplers.authors import preset_rollout, shot_settings
from longtake.tests.support.tiny_model import embedding, randn

pytest.importorskip("diffusers", minversion="0.39")

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")
PRESET, WHOLE = BY_KEY["anyflow-far"].preset, BY_KEY["anyflow"].preset
TEXT = embedding(1)
CHUNKS = (1, 3, 3, 3, 2)
AS_TRAINED = (1, 3, 3, 3, 3, 3, 3, 2)
CLOSE = {"rtol": 0, "atol": 5e-5}


def ours(frames: int, steps: int, **changes: Any) -> Tensor:
    """Our shot of so many latent frames, by the preset and other settings."""
    model = local_denoiser(anyflow.model(), anyflow.FAR)
    latents, preset = anyflow.start_noise(frames), overridden(PRESET, steps=steps)
    return preset_rollout(TEXT, latents, model, preset, **changes)


@torch.inference_mode()
@pytest.mark.parametrize(("chunks", "steps"), [(AS_TRAINED, 1), (CHUNKS, 4)])
def test_a_shot_from_nothing_is_diffusers_own(chunks: tuple[int, ...], steps: int) -> None:
    """The first chunk is one latent frame; from the fourth on a part of the past is coarse."""
    expected = anyflow.shot(TEXT, chunks, steps)
    torch.testing.assert_close(ours(sum(chunks), steps), expected, **CLOSE)


def test_longer_shots_keep_the_first_latent_frame_and_whole_chunks() -> None:
    """Their histories are divided as in training: one latent frame, then threes."""
    policy = preset_cache(PRESET)
    assert isinstance(policy, CoarseWindow)
    history = HistoryFrames(keep_latents=False, keep_departed=False)
    history.append(0, torch.zeros(1), [False])
    for first in range(1, 40, 3):
        history.append(first, torch.zeros(3), [False] * 3)
    kept = history.in_window(policy)
    assert [entry.frame for entry in kept] == [0, *range(22, 40)]
    assert [entry.group for entry in kept[1:]] == [at for at in range(22, 40, 3) for _ in range(3)]


@torch.inference_mode()
@pytest.mark.parametrize("given", [1, 7])
def test_a_shot_that_begins_with_given_frames_is_diffusers_own(given: int) -> None:
    """A picture, and a clip of three chunks: the first of them is coarse from the start."""
    chunks, known = (1, 3, 3, 3), randn(given, 4, *anyflow.SIDES, seed=8)
    expected = anyflow.shot(TEXT, chunks, 2, video_latents=known[None])
    found = ours(sum(chunks), 2, known_frames=from_latents(known))
    torch.testing.assert_close(found, expected, **CLOSE)


@torch.inference_mode()
def test_guidance_is_diffusers_own() -> None:
    expected = anyflow.shot(
        TEXT, CHUNKS[:4], 2, guidance_scale=3.0, negative_prompt_embeds=torch.zeros_like(TEXT)[None]
    )
    torch.testing.assert_close(ours(10, 2, guidance=cfg(3.0)), expected, **CLOSE)


@torch.inference_mode()
def test_the_model_that_makes_all_frames_at_once_is_diffusers_own() -> None:
    config = replace(anyflow.FAR, coarse_past=False)
    model = local_denoiser(anyflow.model(config), config)
    latents, preset = anyflow.start_noise(3), overridden(WHOLE, steps=4)
    expected = anyflow.whole_clip(config, TEXT, 3, 4)
    torch.testing.assert_close(preset_rollout(TEXT, latents, model, preset), expected, **CLOSE)


@torch.inference_mode()
@pytest.mark.parametrize(
    "changed",
    [{"cache": RebuiltWindow(19, 1)}, {"cache": CoarseWindow(19, 1, 3)}],
    ids=["all fine", "one chunk fine"],
)
def test_another_past_gives_another_shot(changed: dict[str, Any]) -> None:
    """What is coarse matters, and from which age on."""
    expected = ours(13, 2)
    found = ours(13, 2, **changed)
    assert torch.equal(found[:4], expected[:4])
    assert (found - expected).abs().amax((1, 2, 3))[10:].min() > 0.01


def settings(length: int) -> RolloutSettings:
    """A shot that is longer than its window."""
    latents = torch.zeros(length, 4, *anyflow.SIDES)
    return shot_settings(TEXT, latents, overridden(PRESET, steps=1), cache=CoarseWindow(10, 1))


def chunks_of(loop: Loop, finished: Sequence[Chunk] = ()) -> list[Chunk]:
    """All chunks that a loop makes behind the `finished` ones."""
    return [*loop.chunks(finished)]


@torch.inference_mode()
@pytest.mark.parametrize("done", [1, 3, 6])
def test_a_shot_goes_on_bit_for_bit_behind_its_window(done: int) -> None:
    """By a replay of its chunks; one latent frame stays as the sink."""
    shot, model = settings(22), local_denoiser(anyflow.model(), anyflow.FAR)
    whole = chunks_of(Loop(shot, model))
    later = chunks_of(Loop(shot, model), whole[:done])
    assert [chunk.index for chunk in later] == [chunk.index for chunk in whole[done:]]
    for again, first in zip(later, whole[done:], strict=True):
        assert torch.equal(again.latents, first.latents)


@torch.inference_mode()
def test_a_snapshot_goes_on_bit_for_bit() -> None:
    shot, model = settings(19), local_denoiser(anyflow.model(), anyflow.FAR)
    loop, made = Loop(shot, model), list[Chunk]()
    taken = None
    for chunk in loop.chunks():
        made.append(chunk)
        if chunk.index == 4 and loop.settled:
            taken = loop.snapshot()
    assert taken is not None
    other = Loop(shot, model)
    other.restore(taken)
    later = chunks_of(other, made[other.index : 5])
    for again, first in zip(later, made[5:], strict=True):
        assert torch.equal(again.latents, first.latents)
