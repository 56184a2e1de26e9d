"""Moments of a video as text, and spans of latent frames as text and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.stream.timecode import frame_spans, read_spans, time_label


@given(st.sets(st.integers(0, 60)).map(sorted))
def test_spans_are_read_as_they_are_written(frames: list[int]) -> None:
    assert read_spans(frame_spans(frames), 61) == tuple(frames)


@pytest.mark.parametrize(
    "text", ["3-", "a", "1,2", "1-2-3", "9-3", "3, 3", "5, 2-4", "-1", "2-9", "0-99999999999999"]
)
def test_other_text_is_no_spans(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|unpack|no span"):
        read_spans(text, 9)


@pytest.mark.parametrize(
    ("seconds", "label", "whole"),
    [
        (0, "0:00.0", "0:00"),
        (59.6, "0:59.6", "1:00"),
        (59.96, "1:00.0", "1:00"),
        (62.5, "1:02.5", "1:02"),
        (3599.96, "1:00:00.0", "1:00:00"),
        (3661, "1:01:01.0", "1:01:01"),
    ],
)
def test_hours_appear_only_when_there_are_some(seconds: float, label: str, whole: str) -> None:
    assert time_label(seconds) == label
    assert time_label(seconds, tenths=False) == whole


def test_a_span_of_one_frame_is_its_number() -> None:
    assert frame_spans([3, 5, 6, 7]) == "3, 5-7"
