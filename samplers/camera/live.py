"""A camera path that somebody drives: its motions are known one chunk at a time."""

from __future__ import annotations

from collections.abc import Sequence

from .moves import CameraMotion
from .path import CameraPath, PathEntry
from .rigid import from_twist


def drive_path(
    path: CameraPath, first: int, drive: Sequence[tuple[int, CameraMotion]]
) -> CameraPath:
    """`path` up to latent frame `first`, and from there on the motions of `drive`.

    Each motion holds from its latent frame on, and the last one without end. 1 unit a second is the
    path's full speed. Frame 0 does not move, so its motion begins with frame 1. The entries are
    those that lines of the same motions give, since where equal steps are divided decides about the
    last bit of a pose. The work does not grow with the path, but for copying it.
    """
    scale = path.full_step / path.frame_s
    motions = {max(1, frame): motion for frame, motion in drive}
    return path.then(max(1, first), (
        PathEntry(
            frame, from_twist(_scaled(motion, scale).twist(path.frame_s)),
            motion.growth(path.frame_s),
        )
        for frame, motion in motions.items()
    ))  # fmt: skip


def _scaled(motion: CameraMotion, scale: float) -> CameraMotion:
    """The motion with its moves, not its turns, at `scale` times the speed."""
    if scale == 1.0:
        return motion
    return CameraMotion(
        scale * motion.right, scale * motion.down, scale * motion.forward,
        motion.tilt, motion.turn, motion.roll, motion.zoom,
    )  # fmt: skip
