"""Keys and a mouse from a camera's motion, by the angles and lengths that they stand for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from longtake.model.camera.actions import MAX_MOUSE, mouse_values, pressed_keys


def motion(right: float = 0.0, forward: float = 0.0, turn: float = 0.0, up: float = 0.0) -> Tensor:
    """A step (1, 4, 4): moves, then degrees to the right and up, of which one is 0."""
    a, b = math.radians(turn), math.radians(up)
    yaw = torch.tensor([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    pitch = torch.tensor([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    step = torch.eye(4)
    step[:3, :3] = yaw @ pitch
    step[0, 3], step[2, 3] = right, forward
    return step[None].double()


@pytest.mark.parametrize(
    ("right", "forward", "expected"),
    [(0, 0.11, "1000"), (0, 0.09, "0000"), (0, -1, "0100"), (-0.15, 0.15, "1010"), (1, 0, "0001")],
)
def test_a_key_is_down_from_a_tenth_of_full_speed(
    right: float, forward: float, expected: str
) -> None:
    keys = pressed_keys(motion(right, forward), 4)[0]
    assert "".join(str(int(key)) for key in keys) == expected


@pytest.mark.parametrize("degrees", [-3.0, 0.0, 6.0])
def test_the_mouse_looks_by_a_pictures_share_of_the_turn(degrees: float) -> None:
    """A latent frame has four pictures, and a mouse at 1 turns 15 degrees in each."""
    share = degrees / 4 / 15
    assert mouse_values(motion(turn=degrees))[0].tolist() == pytest.approx([0, share], abs=1e-6)
    assert mouse_values(motion(up=degrees))[0].tolist() == pytest.approx([share, 0], abs=1e-6)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_fast_turn_is_a_bounded_mouse(sign: int) -> None:
    assert mouse_values(motion(turn=sign * 60.0))[0, 1] == pytest.approx(sign * MAX_MOUSE)
    assert mouse_values(motion(up=sign * 60.0))[0, 0] == pytest.approx(sign * MAX_MOUSE)
