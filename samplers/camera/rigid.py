"""Rigid motions as 4 x 4 matrices in float64: x right, y down, z forward (OpenCV)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROTATION_TOLERANCE = 1e-3  # files often hold float32 or a few decimals


def from_twist(twist: Tensor) -> Tensor:
    """Follow a twist for one unit of time: (move x, y, z, turn about x, y, z in radians) to (4, 4).

    The twist holds in the moving camera's own axes, so two halves of a motion equal the whole.
    """
    moves, (x, y, z) = twist[:3].double(), twist[3:].double().tolist()
    generator = torch.zeros(4, 4, dtype=torch.float64)
    generator[:3, :3] = torch.tensor(
        [[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64
    )
    generator[:3, 3] = moves
    return _exponential(generator, math.sqrt(x * x + y * y + z * z))


def _exponential(generator: Tensor, angle: float) -> Tensor:
    """Rodrigues' formula for a twist's matrix (4, 4) whose turn is `angle` radians."""
    square = generator @ generator
    if angle < 1e-6:
        second, third = 0.5, 1 / 6
    else:
        second = (1 - math.cos(angle)) / angle**2
        third = (angle - math.sin(angle)) / angle**3
    return (
        torch.eye(4, dtype=torch.float64) + generator + second * square + third * square @ generator
    )


def inverse(motion: Tensor) -> Tensor:
    """Invert rigid motions (..., 4, 4) exactly, by transposing the turn."""
    turn = motion[..., :3, :3].transpose(-1, -2)
    result = torch.zeros_like(motion)
    result[..., :3, :3] = turn
    result[..., :3, 3:] = -turn @ motion[..., :3, 3:]
    result[..., 3, 3] = 1.0
    return result


def fractions(motion: Tensor, count: int) -> Tensor:
    """The motion (4, 4) after 1 to `count` of `count` equal parts (count, 4, 4).

    `count` is a power of 2, and the whole turn is less than half a circle.
    """
    if count == 1:
        return motion[None]
    half = fractions(_half(motion), count // 2)
    return torch.cat([half, half[-1] @ half])


def _half(motion: Tensor) -> Tensor:
    """The motion which, made twice, is this one."""
    result, whole = motion.clone(), torch.eye(3).to(motion) + motion[:3, :3]
    left, _, right = torch.linalg.svd(whole)
    result[:3, :3] = left @ right
    moved = torch.eye(3).to(motion) + result[:3, :3]
    result[:3, 3] = torch.linalg.solve(moved, motion[:3, 3])
    return result


def fault(poses: Tensor) -> str | None:
    """Say what keeps matrices (f, 4, 4) from being rigid motions, None if they are."""
    bad = (~poses.isfinite()).flatten(1).any(1)
    if bad.any():
        return f"pose {int(bad.nonzero()[0])} holds NaN or infinity"
    last = poses.new_tensor([0.0, 0.0, 0.0, 1.0])
    bad = ((poses[:, 3] - last).abs() > ROTATION_TOLERANCE).any(1)
    if bad.any():
        return f"the last row of pose {int(bad.nonzero()[0])} is not 0 0 0 1"
    turn = poses[:, :3, :3]
    apart = (turn @ turn.transpose(1, 2) - torch.eye(3).to(poses)).abs().flatten(1).amax(1)
    bad = (apart > ROTATION_TOLERANCE) | (torch.linalg.det(turn) < 0)
    return f"the 3 x 3 part of pose {int(bad.nonzero()[0])} is no rotation" if bad.any() else None
