"""What judges the second stage: the camera's place, the band above, gains in pairs."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch

from longtake.model.refiner.network import Refiner, RefinerConfig
from longtake.tests.support.tiny_model import randomise
from longtake.training.refiner.evaluate import gains
from longtake.training.refiner.measures import (
    FRAME_WISE,
    SecondStage,
    at_true_place,
    at_true_time,
    flicker,
    frame_by_frame,
    psnr_above,
)
from longtake.training.world.attributes import random_values
from longtake.training.world.renderer import render
from longtake.training.world.scene import Shot, scene

FRAMES = torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("way", FRAME_WISE)
def test_each_way_makes_frames_four_times_as_large_and_keeps_flat_ones(way: str) -> None:
    larger = FRAME_WISE[way](FRAMES)
    assert larger.shape == (3, 3, 32, 48) and larger.min() >= 0 and larger.max() <= 1
    flat = FRAME_WISE[way](torch.full((1, 3, 8, 12), 0.4))
    torch.testing.assert_close(flat, torch.full((1, 3, 32, 48), 0.4), rtol=0, atol=1e-6)


def test_noise_of_a_level_changes_what_the_second_stage_makes() -> None:
    network = Refiner(RefinerConfig(8, 4, 1))
    randomise(network, 2)
    plain, noisy, again = (SecondStage(network, level)(FRAMES) for level in (0.0, 0.2, 0.2))
    assert torch.equal(noisy, again) and not torch.equal(plain, noisy)


def test_frame_by_frame_no_frame_knows_of_another() -> None:
    network = Refiner(RefinerConfig(8, 4, 1))
    randomise(network, 2)
    stage = SecondStage(network)
    alone = frame_by_frame(stage)(FRAMES)
    assert torch.equal(alone[1:2], stage(FRAMES[1:2]))
    assert not torch.equal(alone[1], stage(FRAMES)[1])


def test_the_cameras_drift_is_found() -> None:
    shot = Shot(((0, random_values(random.Random(4))),), 11)
    clip = scene([shot], 3)
    drifts = torch.tensor([[0.0, 1.5, -2.25]])
    shown = render(replace(clip, camera=clip.camera + drifts), 64, 96)[0]
    assert torch.equal(at_true_place(clip, shown).camera, clip.camera + drifts)


def test_the_balls_delay_is_found() -> None:
    shot = Shot(((0, random_values(random.Random(4))),), 11)
    clip = scene([shot], 12)
    early, late = clip.frames(2, 8), clip.frames(4, 10)
    found = at_true_time(replace(early, camera=late.camera), render(late, 64, 96)[0])
    torch.testing.assert_close(found.ball, late.ball)


def test_flicker_counts_where_the_truth_rests() -> None:
    truth = torch.zeros(2, 3, 4, 4)
    truth[1, :, :, 2:] = 1
    frames = truth.clone()
    frames[1, :, :, :2] += 3 / 255
    assert flicker(frames, truth) == pytest.approx(3, rel=1e-4)
    assert flicker(truth, truth) == 0


def test_only_what_small_frames_cannot_hold_counts_above() -> None:
    truth = torch.full((1, 1, 32, 32), 0.5)
    column = torch.arange(32.0)
    held, above = (0.1 * torch.cos(2 * math.pi * column * waves / 32) for waves in (3, 5))
    assert psnr_above(truth + held, truth) > 100
    expected = -10 * math.log10(0.1**2 / 2)
    assert psnr_above(truth + above, truth) == pytest.approx(expected, abs=0.01)
    assert psnr_above(truth + above[:, None], truth) == pytest.approx(expected, abs=0.01)


def test_gains_are_of_pairs() -> None:
    clips = [
        {"bicubic, dB": value, "second stage, dB": value + 2, "bicubic, flicker": 1.0}
        for value in (20.0, 35.0)
    ]
    [(name, gain)] = gains(clips).items()
    assert name == "second stage minus bicubic, dB"
    assert (gain.mean, gain.low, gain.high) == (2, 2, 2)
