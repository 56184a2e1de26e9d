"""Spans of latent frames as text, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.stream.timecode import frame_spans, read_spans


@given(st.sets(st.integers(0, 60)).map(sorted))
def test_spans_are_read_as_they_are_written(frames: list[int]) -> None:
    assert read_spans(frame_spans(frames)) == tuple(frames)


@pytest.mark.parametrize("text", ["3-", "a", "1,2", "1-2-3"])
def test_other_text_is_no_spans(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|unpack"):
        read_spans(text)
