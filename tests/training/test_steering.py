"""How well a camera obeys is read from pixels: of a rendered world the reading is known."""

from __future__ import annotations

import random

import pytest
import torch

from longtake.model.preset import DEMO
from longtake.model.vae.latent_format import frame_count
from longtake.samplers.camera.track import strip_pans
from longtake.training.evaluation.steering import (
    TRUE_DRIVE,
    Pans,
    commanded,
    compared,
    path_of,
    random_pans,
    speeds,
)
from longtake.training.world.attributes import random_values
from longtake.training.world.clips import latent_start
from longtake.training.world.renderer import render
from longtake.training.world.scene import Shot, scene

LENGTH = 24
PANS: Pans = ((0, 1.0), (6, -1.0), (9, 0.0), (12, -0.37), (18, 0.81))


def drawn(pans: Pans, length: int, seed: int) -> torch.Tensor:
    """The rendered frames (t, 3, H, W) of a drive."""
    rng = random.Random(seed)
    shot = Shot(
        ((0, random_values(rng)),), rng.randrange(2**31),
        tuple((latent_start(at), pan) for at, pan in pans),
    )  # fmt: skip
    return render(scene([shot], frame_count(length)), DEMO.height, DEMO.width)[0]


@pytest.mark.parametrize("seed", range(6))
def test_the_speed_of_a_rendered_drive_is_read(seed: int) -> None:
    """Three pieces, as a decoder gives them: the first latent frame is one frame."""
    video = drawn(PANS, LENGTH, seed)
    read = [*speeds([video[:9], video[9:21], video[21:]])]
    figures = compared(read, commanded(PANS, LENGTH))
    assert len(read) == LENGTH - 1
    assert figures["correlation"] > 0.99
    assert 0.95 < figures["slope"] < 1.05
    assert figures["still camera, pixels a frame"] < 0.02


def test_a_camera_that_does_not_obey_is_told_from_one_that_does() -> None:
    wanted = commanded(PANS, LENGTH)
    obeyed, slow = compared(wanted, wanted), compared([0.8 * speed for speed in wanted], wanted)
    assert obeyed == pytest.approx(dict(zip(obeyed, (1.0, 1.0, 0.0, 0.0), strict=True)), abs=1e-6)
    assert slow["slope"] == pytest.approx(0.8)
    assert compared([-speed for speed in wanted], wanted)["correlation"] == pytest.approx(-1.0)
    drifting = compared([speed + 0.4 for speed in wanted], wanted)
    assert drifting["still camera, pixels a frame"] == pytest.approx(0.1)
    way = sum(map(abs, wanted))
    off = drifting["place at the end, off by a share of the way"]
    assert off == pytest.approx(0.4 * (LENGTH - 1) / way)


def test_what_is_commanded_is_what_the_model_is_given() -> None:
    """The path's pan of each latent frame, four pixel frames at it."""
    path = path_of(PANS)
    pans = (4 * strip_pans(path, path.steps_of(range(1, LENGTH)))).tolist()
    assert pans == pytest.approx(commanded(PANS, LENGTH), abs=1e-4)


def test_drives_have_taps_stops_reversals_and_speeds_in_between() -> None:
    pans = [pan for seed in range(20) for _, pan in random_pans(random.Random(seed), TRUE_DRIVE)]
    assert {-1.0, 0.0, 1.0} < {*pans}
    assert any(0 < abs(pan) < 1 for pan in pans) and max(map(abs, pans)) == 1
    starts = [at for at, _ in random_pans(random.Random(1), 500)]
    gaps = {b - a for a, b in zip(starts, starts[1:], strict=False)}
    assert {1, 24} <= gaps
