"""The detectors of ball and edges, on pictures that the renderer draws."""

from __future__ import annotations

import json
import random

import pytest
import torch

from longtake.model.preset import DEMO_FOLDER
from longtake.training.evaluation import looks
from longtake.training.evaluation.ball import PRESENT, read_balls
from longtake.training.evaluation.calibrate_detectors import smeared
from longtake.training.evaluation.edges import fine_edges
from longtake.training.evaluation.kit import Recipe, load_kit
from longtake.training.evaluation.looks import SMEARED
from longtake.training.evaluation.references import FILE, LIGHTS, reference
from longtake.training.world.attributes import ATTRIBUTES, random_values
from longtake.training.world.renderer import ball_centre, render
from longtake.training.world.scene import Scene, Shot, scene

FRAMES = torch.tensor([3, 20, 37])


def world(seed: int) -> tuple[Scene, dict[str, str]]:
    """A world with random attributes."""
    rng = random.Random(seed)
    values = random_values(rng)
    return scene([Shot(((0, values),), seed)], 40), values


@pytest.mark.parametrize("seed", range(12))
def test_a_drawn_ball_is_where_the_world_says(seed: int) -> None:
    whole, values = world(seed)
    x, y = ball_centre(whole, 96)
    balls = read_balls(render(whole, 64, 96)[0, FRAMES], values)
    for ball, at in zip(balls, FRAMES.tolist(), strict=True):
        assert ball.is_present and ball.count == 1
        assert abs(ball.x + 0.5 - float(x[0, at])) < 1.2
        assert abs(ball.y + 0.5 - float(y[0, at])) < 1.2


@pytest.mark.parametrize("seed", range(12))
def test_a_world_without_a_ball_has_none_and_half_a_ball_is_none(seed: int) -> None:
    whole, values = world(seed)
    one, none = render(whole, 64, 96)[0, FRAMES], render(whole, 64, 96, ball=False)[0, FRAMES]
    for pictures in (none, (one + none) / 2):
        balls = read_balls(pictures, values)
        assert all(ball.misfit > PRESENT and ball.count == 0 for ball in balls)


def test_two_balls_are_two() -> None:
    whole, values = world(4)
    picture = render(whole, 64, 96)[0, FRAMES[:1]]
    [ball] = read_balls(picture, values)
    moved = ball.x + (30 if ball.x < 48 else -30)
    twice = picture.clone()
    box = slice(ball.y - 8, ball.y + 9)
    twice[..., box, moved - 8 : moved + 9] = picture[..., box, ball.x - 8 : ball.x + 9]
    assert read_balls(twice, values)[0].count == 2


def test_smearing_takes_sharpness_from_ball_and_picture() -> None:
    for seed in range(6):
        whole, values = world(seed)
        sharp = render(whole, 64, 96)[0, FRAMES]
        soft = smeared(smeared(sharp))
        pairs = zip(read_balls(sharp, values), read_balls(soft, values), strict=True)
        assert all(b.sharpness < a.sharpness for a, b in pairs)
        assert (fine_edges(soft) < 0.8 * fine_edges(sharp)).all()


def test_a_picture_without_a_moon_is_not_smeared() -> None:
    """A moon has more edges than the land of a clear night."""
    night = {"terrain": "hills", "time": "night", "weather": "clear"}
    shares = list[float]()
    for seed in range(12):
        values = {**random_values(random.Random(seed)), **night}
        whole = scene([Shot(((0, values),), seed)], 29)
        picture = render(whole, 64, 96)[0, 24]
        picture[:, :22] = picture[:, :1]  # of 64 rows: neither a moon nor a ball in the sky
        moonless, full = fine_edges(picture[None]), fine_edges(render(whole, 64, 96)[0, 24:25])
        shares.append(float(moonless / full))
    assert min(shares) > SMEARED


def test_the_reference_covers_every_light_and_its_errors_are_small() -> None:
    truth = reference()
    assert len(truth.fine_edges) == 18 and len(LIGHTS) == 3
    for seed in range(5):
        assert 0.2 < truth.edges_of(random_values(random.Random(seed))) < 0.8
    assert truth.errors["ball, reads as missing"] <= 0.005
    assert truth.errors["no ball, reads as one"] <= 0.005
    assert min(truth.pictures.values()) >= 300
    assert json.loads(FILE.read_text(encoding="utf-8"))["sharpness"] == truth.sharpness


def test_readings_are_of_the_values_in_force() -> None:
    """A ball in another colour is still a ball; an empty world's is missing."""
    whole, values = world(7)
    other = {**values, "ball": next(b for b in ATTRIBUTES["ball"] if b != values["ball"])}
    picture = render(whole, 64, 96)[0, 20]
    assert looks.readings(picture, other)["ball missing or faint"] == 0
    empty = render(whole, 64, 96, ball=False)[0, 20]
    assert looks.readings(empty, values)["ball missing or faint"] == 1


def test_a_shot_is_read_outside_its_ramps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollout of the shipped model, with a switch at latent frame 6."""
    monkeypatch.setattr(looks, "BETWEEN", 6)
    seen: list[dict[str, str]] = []
    read = looks.readings

    def note(picture: torch.Tensor, values: dict[str, str]) -> dict[str, float]:
        seen.append(values)
        return read(picture, values)

    monkeypatch.setattr(looks, "readings", note)
    with torch.inference_mode():
        figures = looks.looks(load_kit(DEMO_FOLDER), 0, Recipe(steps=1), length=9)
    assert len(seen) == 3 and all(values == seen[0] for values in seen)
    assert {*figures} == {"ball missing or faint", "ball doubled", "ball blurred", "smeared",
                          "smeared after a switch"}  # fmt: skip


def test_the_floor_of_a_shot_is_the_truth_of_its_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each switch the truth shows the world that the prompt names: so nothing is wrong."""
    monkeypatch.setattr(looks, "BETWEEN", 6)
    kit = load_kit(DEMO_FOLDER)
    with torch.inference_mode():
        floor = looks.looks_of_truth(kit, 0, length=12)
        assert floor.keys() == looks.looks(kit, 0, Recipe(steps=1), length=6).keys()
        assert not any(floor.values())
        monkeypatch.setattr(looks, "latent_start", lambda _: 0)  # all in the last prompt's world
        assert any(looks.looks_of_truth(kit, 0, length=12).values())


def test_scripts_change_at_every_switch() -> None:
    scripts = looks._scripts(random.Random(0), looks.MINUTE)
    assert [*scripts] == [*range(0, looks.MINUTE, looks.BETWEEN)]
    values = [entry[0] for entry in scripts.values()]
    assert all(a != b for a, b in zip(values, values[1:], strict=False))
