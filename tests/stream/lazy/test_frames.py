"""Frames on their way to the outputs, as 8-bit pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from longtake.benchmarks._shared.allocator import allocator_peak
from longtake.stream.lazy import frame_chunk
from longtake.stream.lazy.frame_chunk import VALUES_AT_ONCE, to_pictures


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


def test_large_frames_are_converted_with_the_memory_of_one() -> None:
    frames = torch.rand(3, 3, 480, 832)
    assert 1 < 2 * VALUES_AT_ONCE / frames[0].numel() < 2
    assert allocator_peak(lambda: to_pictures(frames)) <= 3 * frames[0].nbytes


@pytest.mark.parametrize("frames_at_once", [0, 1, 3, 5])
def test_how_many_frames_are_converted_at_once_changes_nothing(
    frames_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = torch.linspace(-0.2, 1.2, 5 * 3 * 4 * 6).view(5, 3, 4, 6)
    expected = to_pictures(frames)
    monkeypatch.setattr(frame_chunk, "VALUES_AT_ONCE", frames_at_once * frames[0].numel())
    assert (to_pictures(frames) == expected).all() and to_pictures(frames[:0]).shape == (0, 4, 6, 3)
