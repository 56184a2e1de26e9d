"""A chunk of frames on its way from the decoder to the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from ...attention.pieces import runs
from ...model.vae.latent_format import frame_count

if TYPE_CHECKING:
    from torch import Tensor

    from ...samplers.loop import Chunk

Spans = tuple[tuple[int, int], ...]
"""Runs of frames: the first, and the one after the last."""

VALUES_AT_ONCE = 1 << 20  # in float32, while pictures are converted

Pictures = npt.NDArray[np.uint8 | np.uint16]  # (n, H, W, 3), RGB, to 255 or 65535


@dataclass(frozen=True, slots=True)
class FrameChunk:
    """The frames of one chunk of latents: `(f, 3, H, W)` float32 on the CPU, RGB in [0, 1]."""

    index: int
    first_frame: int  # counted in frames from the start of the rollout
    frames: Tensor
    latents: Chunk | None = None  # None for a video file

    @property
    def prompt(self) -> str:
        """The prompt of the pictures; empty for a video file."""
        return "" if self.latents is None else self.latents.prompt

    @property
    def recalled(self) -> Spans:
        """The earlier frames that were fetched to make these.

        None where frames are not those that latents decode to, as after an interpolation.
        """
        chunk = self.latents
        if chunk is None or self.first_frame != frame_count(chunk.first_frame):
            return ()
        spans = runs(chunk.recalled)
        return tuple((frame_count(span.start), frame_count(span.stop)) for span in spans)


def to_pictures(frames: Tensor, bits: int = 8) -> Pictures:
    """Convert (n, 3, H, W) in [0, 1] to (n, H, W, 3) of 8 bits, or 16 for more; on any thread.

    Values outside the range are clipped, and NaN becomes 0.

    Works on a few frames at a time: float copies of a whole chunk of large ones would be many times
    larger than it. Of small ones a chunk is done at once, since each operation on a thread of its
    own makes the thread that samples wait for Python's lock.
    """
    count, channels, height, width = frames.shape
    dtype = np.uint8 if bits == 8 else np.uint16
    pictures: Pictures = np.empty((count, height, width, channels), dtype)
    at_once = max(1, VALUES_AT_ONCE // max(1, channels * height * width))
    with torch.inference_mode():  # a worker thread does not inherit the host's
        for first in range(0, count, at_once):
            part = slice(first, first + at_once)
            scaled = frames[part].float().clamp(0, 1).nan_to_num_().mul_(np.iinfo(dtype).max)
            levels = scaled.numpy(force=True)
            # NumPy rounds: torch would split so small a picture over its threads, and wait for one
            # that a core at work on the next chunk keeps from running.
            pictures[part] = np.rint(levels, out=levels).transpose(0, 2, 3, 1)  # (., H, W, 3)
    return pictures
