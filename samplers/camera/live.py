"""A camera path that somebody drives: its motions are known one chunk at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .moves import CameraMotion
from .path import CameraPath
from .rigid import from_twist


def drive_path(path: CameraPath, drive: Sequence[tuple[int, CameraMotion]]) -> CameraPath:
    """`path` up to the first latent frame of `drive`, then its motions from their frames on.

    The last motion goes on without end. 1 unit a second is the path's full speed. Frame 0 does not
    move, so its motion begins with frame 1. The entries are those that lines of the same motions
    give, since where equal steps are divided decides about the last bit of a pose.
    """
    entries = [*{max(1, frame): motion for frame, motion in drive}.items()]
    count = sum(before < entries[0][0] for before in path.starts)
    scale = path.full_step / path.frame_s
    steps = [from_twist(_scaled(motion, scale).twist(path.frame_s)) for _, motion in entries]
    return CameraPath(
        (*path.starts[:count], *(frame for frame, _ in entries)),
        torch.cat([path.steps[:count], torch.stack(steps)]),
        (*path.growths[:count], *(motion.growth(path.frame_s) for _, motion in entries)),
        path.lens, path.full_step, path.frame_s,
    )  # fmt: skip


def _scaled(motion: CameraMotion, scale: float) -> CameraMotion:
    """The motion with its moves, not its turns, at `scale` times the speed."""
    if scale == 1.0:
        return motion
    return CameraMotion(
        scale * motion.right, scale * motion.down, scale * motion.forward,
        motion.tilt, motion.turn, motion.roll, motion.zoom,
    )  # fmt: skip
