"""A camera path from motions at times, with eased changes of speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .moves import STILL, CameraMotion
from .path import CameraPath, Lens
from .rigid import from_twist


@dataclass(frozen=True, slots=True)
class TimedMotion:
    """A motion from latent frame `start_frame` on, reached over `over_frames` latent frames.

    The speed changes evenly, or with `smooth` slowly at both ends of the change.
    """

    start_frame: int
    motion: CameraMotion
    over_frames: int = 0
    smooth: bool = False

    def share(self, frame: int) -> float:
        """How much of this motion is reached in the middle of a latent frame's step, 0 to 1."""
        if self.over_frames <= 0:
            return 1.0
        share = min(1.0, max(0.0, (frame - self.start_frame + 0.5) / self.over_frames))
        return share * share * (3 - 2 * share) if self.smooth else share


def path_of_motions(
    motions: Sequence[TimedMotion], frame_s: float, lens: Lens | None = None
) -> CameraPath:
    """The path of motions in order of time; `frame_s` is the time of a latent frame in seconds.

    Of motions for one latent frame the last counts. Full speed is 1 unit a second.
    """
    by_frame = {max(1, timed.start_frame): timed for timed in motions}
    changes = [by_frame[frame] for frame in sorted(by_frame)]
    entries: list[tuple[int, CameraMotion]] = [(0, STILL)]
    for number, timed in enumerate(changes):
        start = max(1, timed.start_frame)
        stop = max(1, changes[number + 1].start_frame) if number + 1 < len(changes) else None
        before = entries[-1][1]
        ramp = range(start, start + timed.over_frames)
        for frame in ramp if stop is None else range(start, min(ramp.stop, stop)):
            entries.append((frame, before.toward(timed.motion, timed.share(frame))))
        if stop is None or ramp.stop < stop:
            entries.append((ramp.stop, timed.motion))
    steps = torch.stack([from_twist(motion.twist(frame_s)) for _, motion in entries])
    growths = tuple(motion.growth(frame_s) for _, motion in entries)
    starts = tuple(frame for frame, _ in entries)
    return CameraPath(starts, steps, growths, lens or Lens(), full_step=frame_s, frame_s=frame_s)
