"""The demo world: scripts become ramps, and the landscape is a function of the camera."""

from __future__ import annotations

import random

import pytest
import torch

from longtake.training.world.attributes import ATTRIBUTES, random_values
from longtake.training.world.clips import latent_start, random_shot, reversal_shot
from longtake.training.world.renderer import render
from longtake.training.world.scene import (
    ATTRIBUTE_SIZE,
    RAMP_FRAMES,
    SLICES,
    Scene,
    Shot,
    one_hot,
    scene,
)

PLAIN = {"ball": "red", "time": "day", "terrain": "snow", "weather": "cloudy", "pan": "right"}


def there_and_back(camera: list[float], weather: str = "cloudy", seed: int = 7) -> Scene:
    """Return one clip with the camera at the given positions."""
    attributes = one_hot({**PLAIN, "weather": weather}).expand(1, len(camera), -1)
    ball = torch.tensor([[0.0, 40.0, 0.0, 160.0]])
    return Scene(attributes, torch.tensor([camera]), torch.tensor([seed]), ball)


def test_slices_cover_the_vector_in_order_without_overlap() -> None:
    covered = [i for part in SLICES.values() for i in range(part.start, part.stop)]
    assert covered == list(range(ATTRIBUTE_SIZE))
    assert {name: part.stop - part.start for name, part in SLICES.items()} == {
        name: len(values) for name, values in ATTRIBUTES.items()
    }


def test_rendering_is_deterministic() -> None:
    shots = [random_shot(random.Random(3), 6)]
    first, second = (render(scene(shots, 3), 16, 24) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31)])
def test_pictures_are_rgb_in_range(height: int, width: int) -> None:
    pictures = render(scene([random_shot(random.Random(i), 6) for i in range(2)], 2), height, width)
    assert pictures.shape == (2, 2, 3, height, width)
    assert pictures.min() >= 0 and pictures.max() <= 1


@pytest.mark.parametrize("weather", ATTRIBUTES["weather"])
def test_scenery_returns_when_the_camera_does(weather: str) -> None:
    pictures = render(there_and_back([100.0, 130.0, 100.0], weather), 32, 48)[0]
    # the ball moves on: it and its shadow are cut out
    scenery = torch.cat([pictures[..., :12], pictures[..., 36:]], -1)
    assert torch.equal(scenery[0], scenery[2])
    assert (scenery[0] - scenery[1]).abs().mean() > 0.01


def test_the_ground_moves_with_the_camera_pixel_by_pixel() -> None:
    low = render(there_and_back([50.0, 55.0], "clear"), 64, 64)[0, :, :, 60:]
    torch.testing.assert_close(low[0, ..., 5:20], low[1, ..., :15], atol=2e-3, rtol=0)


def test_another_seed_is_another_landscape() -> None:
    one, other = (render(there_and_back([0.0], seed=seed), 32, 48) for seed in (1, 2))
    assert (one - other).abs().mean() > 0.01


def test_cutting_frames_equals_rendering_all() -> None:
    whole = scene([random_shot(random.Random(1), 6)], 12)
    torch.testing.assert_close(
        render(whole.frames(5, 9), 16, 16), render(whole, 16, 16)[:, 5:9], atol=2e-4, rtol=0
    )


def test_a_change_is_a_linear_ramp_of_weights_that_sum_to_one() -> None:
    night = {**PLAIN, "time": "night"}
    weights = scene([Shot(((0, PLAIN), (4, night)), 0)], 20).attributes[0]
    time = weights[:, SLICES["time"]]
    torch.testing.assert_close(time.sum(1), torch.ones(20))
    expected = ((torch.arange(20) - 3) / RAMP_FRAMES).clamp(0, 1)
    torch.testing.assert_close(time[:, ATTRIBUTES["time"].index("night")], expected)
    torch.testing.assert_close(weights[0], one_hot(PLAIN))
    torch.testing.assert_close(weights[-1], one_hot(night))


@pytest.mark.parametrize(("pan", "velocity"), [("left", -1.0), ("right", 1.0), ("still", 0.0)])
def test_the_camera_pans_a_pixel_a_frame(pan: str, velocity: float) -> None:
    camera = scene([Shot(((0, {**PLAIN, "pan": pan}),), 5)], 9).camera[0]
    torch.testing.assert_close(camera.diff(), torch.full((8,), velocity), atol=1e-3, rtol=0)


def test_values_at_a_frame_are_the_last_that_started() -> None:
    second = random_values(random.Random(0))
    shot = Shot(((0, PLAIN), (5, second)), 0)
    assert [shot.values_at(frame) for frame in (0, 4, 5, 99)] == [PLAIN, PLAIN, second, second]


@pytest.mark.parametrize("seed", range(5))
def test_a_reversal_shot_turns_back_at_once_or_after_a_pause(seed: int) -> None:
    shot = reversal_shot(random.Random(seed), 80)
    pans = [values["pan"] for _, values in shot.values]
    moves = [pan for pan in pans if pan != "still"]
    assert all(a != b for a, b in zip(pans, pans[1:], strict=False))
    assert all(a != b for a, b in zip(moves, moves[1:], strict=False))
    assert {start for start, _ in shot.values} <= {latent_start(i) for i in range(80)}
