"""Frames on their way to the outputs, as 8-bit pictures."""

from __future__ import annotations

import numpy as np
import torch

from longtake.benchmarks._shared.allocator import allocator_peak
from longtake.stream.lazy.frame_chunk import to_pictures


def test_pictures_are_the_nearest_of_256_levels() -> None:
    frames = torch.linspace(-0.2, 1.2, 2 * 3 * 5 * 7).view(2, 3, 5, 7)
    expected = np.rint(np.clip(frames.numpy(), 0, 1) * np.float32(255))
    assert (to_pictures(frames) == expected.transpose(0, 2, 3, 1)).all()
    assert to_pictures(frames.bfloat16()).dtype == np.uint8
    assert (to_pictures(torch.full((1, 3, 2, 2), torch.nan)) == 0).all()


def test_more_than_8_bits_are_the_nearest_of_65536_levels() -> None:
    frames = torch.linspace(-0.2, 1.2, 2 * 3 * 5 * 7).view(2, 3, 5, 7)
    expected = np.rint(np.clip(frames.numpy(), 0, 1) * np.float32(65535))
    assert (to_pictures(frames, 10) == expected.transpose(0, 2, 3, 1)).all()


def test_a_chunk_is_converted_with_the_memory_of_one_frame() -> None:
    frames = torch.rand(12, 3, 48, 64)
    assert allocator_peak(lambda: to_pictures(frames)) <= 3 * frames[0].nbytes
