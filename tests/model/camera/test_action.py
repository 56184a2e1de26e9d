"""The demo's camera: one number per latent frame in the time embedding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from longtake.model.camera.action import FULL_PAN, POSITION, action_hooks, pan_speeds
from longtake.model.camera.frames import CameraFrames
from longtake.model.config import FREQ_DIM
from longtake.model.dit import WanDiT
from longtake.samplers.camera.moves import CameraMotion, read_motion
from longtake.samplers.camera.path import Lens
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.tests.support.tiny_model import TINY, randn, random_dit

STEERED = replace(TINY, camera="action")


def frames(move: str, count: int = 3) -> CameraFrames:
    """The camera's first frames under one move."""
    path = path_of_motions([TimedMotion(0, read_motion(move, 1))], 0.25)
    turns = path.turns_of(path.steps_of(range(count))).float()
    lenses = torch.tensor([Lens().values] * count)
    return CameraFrames(path.relative(range(count)), lenses, turns, 4, 6)


@pytest.mark.parametrize(
    ("move", "speed"),
    [("pan left", -1.0), ("pan right", 1.0), ("pan right 7.5", 0.5), ("still", 0.0),
     ("right .25", 0.25), ("pan left 90", -1.0), ("forward", 0.0), ("tilt up", 0.0)],
)  # fmt: skip
def test_the_action_is_the_pan_in_parts_of_a_full_one(move: str, speed: float) -> None:
    assert pan_speeds(frames(move)).tolist() == pytest.approx([0, speed, speed], abs=1e-6)


def test_an_untrained_embedding_adds_exactly_nothing() -> None:
    e = randn(1, 3, TINY.dim)
    [add] = action_hooks(WanDiT(STEERED), frames("pan left")).time
    assert torch.equal(add(e), e)


def test_the_embedding_is_two_layers_of_the_sinusoid() -> None:
    tree, e = random_dit(STEERED), randn(1, 3, TINY.dim)
    [add] = action_hooks(tree, frames("pan right 7.5")).time
    half = FREQ_DIM // 2
    for frame, action in enumerate((0.0, 0.5, 0.5)):
        angles = POSITION * action * 10_000.0 ** (-torch.arange(half) / half)
        hidden = tree.action_embedding[0](torch.cat([angles.cos(), angles.sin()]))
        expected = tree.action_embedding[2](torch.nn.functional.silu(hidden))
        assert torch.allclose(add(e)[0, frame] - e[0, frame], expected, atol=1e-5)


def test_a_fresh_embedding_learns_although_it_adds_nothing() -> None:
    """Two layers of zeros would give each other no gradient."""
    tree = WanDiT(STEERED)
    [add] = action_hooks(tree, frames("pan left")).time
    add(randn(1, 3, TINY.dim)).square().sum().backward()
    assert tree.action_embedding[2].weight.grad.abs().max() > 0


def test_a_chunks_pan_is_embedded_once_unless_it_is_trained() -> None:
    tree, e = random_dit(STEERED).requires_grad_(True), randn(1, 3, TINY.dim)
    calls = list[object]()
    tree.action_embedding.register_forward_pre_hook(lambda *_: calls.append(_))
    [add] = action_hooks(tree, frames("pan left")).time
    with torch.no_grad():
        first, again = add(e), add(e + 1)
    assert len(calls) == 1
    torch.testing.assert_close(again, first + 1)
    add(e).square().sum().backward()  # after passes without gradients
    assert len(calls) == 2
    assert tree.action_embedding[2].weight.grad.abs().max() > 0


def test_weight_names() -> None:
    extra = WanDiT(STEERED).state_dict().keys() - WanDiT(TINY).state_dict().keys()
    layers = ("0.weight", "0.bias", "2.weight", "2.bias")
    assert extra == {f"action_embedding.{layer}" for layer in layers}


def test_a_full_pan_is_the_usual_one() -> None:
    assert read_motion("pan right", 1) == CameraMotion(turn=FULL_PAN)
