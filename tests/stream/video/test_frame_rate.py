"""Laws of another frame rate: chunks equal the whole, and FFmpeg's own filter agrees."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.filter import Graph
from torch import Tensor

from longtake.stream.video.frame_rate import at_rate, exact_rate, is_same_rate


def shown(frames: Tensor, first: int, source: Fraction, target: Fraction) -> Tensor:
    """All parts together; the last one says so."""
    parts = list(at_rate(frames, first, source, target))
    assert [is_last for _, is_last in parts] == [part is parts[-1] for part in parts]
    return torch.cat([frames[:0], *(part for part, _ in parts)])


RATES = [(16, 24), (16, 30), (24, 16), (Fraction(30000, 1001), 25), (16, 8), (16, 16), (12.5, 60)]


@pytest.mark.parametrize(("source", "target"), RATES)
def test_chunks_give_the_frames_of_the_whole_video(
    source: float | Fraction, target: float | Fraction
) -> None:
    numbers = torch.arange(160)
    source, target = Fraction(source), Fraction(target)
    whole = shown(numbers, 0, source, target)
    for sizes in ((1,) * 160, (9, *(12,) * 12, 7), (1, 159)):
        chunks, first = [], 0
        for size in sizes:
            chunks.append(shown(numbers[first : first + size], first, source, target))
            first += size
        assert torch.equal(torch.cat(chunks), whole)
    assert len(whole) == -(-160 * target // source)


@pytest.mark.parametrize(("source", "target"), RATES)
def test_ffmpegs_fps_filter_shows_the_same_frames(
    source: float | Fraction, target: float | Fraction
) -> None:
    """Rounding down, the filter shows at each moment the frame that began last."""
    source, target = Fraction(source), Fraction(target)
    graph = Graph()
    begin = graph.add_buffer(
        width=16, height=16, format=av.VideoFormat("gray"), time_base=Fraction(1, 1_000_000)
    )
    rate = graph.add("fps", f"fps={target.numerator}/{target.denominator}:round=up:start_time=0")
    end = graph.add("buffersink")
    begin.link_to(rate)
    rate.link_to(end)
    graph.configure()
    filtered = list[int]()
    for number in range(100):
        frame = av.VideoFrame.from_ndarray(np.full((16, 16), number, np.uint8), format="gray")
        frame.pts, frame.time_base = -int(-number * 1_000_000 // source), Fraction(1, 1_000_000)
        begin.push(frame)
        try:
            while True:
                filtered.append(int(end.pull().to_ndarray()[0, 0]))
        except av.BlockingIOError:
            continue
    expected = shown(torch.arange(100), 0, source, target).tolist()
    assert len(filtered) > 40 and filtered == expected[: len(filtered)]


@pytest.mark.parametrize(("count", "most"), [(1, 16), (16, 16), (40, 40)])
def test_no_part_of_a_slide_show_is_larger_than_a_chunk_or_a_few(count: int, most: int) -> None:
    """A picture for 1000 seconds is 24,000 frames, which no memory holds at once."""
    parts = [part for part, _ in at_rate(torch.arange(count), 0, Fraction(1, 1000), Fraction(24))]
    assert max(map(len, parts)) == most and sum(map(len, parts)) == count * 24000


@pytest.mark.parametrize(
    ("written", "exact"),
    [(29.97, Fraction(30000, 1001)), (23.98, Fraction(24000, 1001)), (24, Fraction(24)),
     (23.976, Fraction(24000, 1001)), (59.94, Fraction(60000, 1001)), (12.5, Fraction(25, 2)),
     (30000 / 1001, Fraction(30000, 1001)), (0.01, Fraction(1, 100)), (16, Fraction(16))],
)  # fmt: skip
def test_a_rate_of_television_is_meant_where_two_decimals_of_it_are_written(
    written: float, exact: Fraction
) -> None:
    assert exact_rate(written) == exact
    assert is_same_rate(written, exact) and not is_same_rate(written, exact + 1)


def test_24_is_not_23_976() -> None:
    assert not is_same_rate(24, Fraction(24000, 1001)) and not is_same_rate(30, 29.97)
