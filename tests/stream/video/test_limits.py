"""What a format cannot hold is refused in a sentence, before a file begins."""

from __future__ import annotations

import pytest

from longtake.errors import BadInput
from longtake.stream.video.codecs import AV1, H264, H265, Codec, Encoding
from longtake.stream.video.spec import VideoSpec


@pytest.mark.parametrize(
    ("codec", "width", "height"), [(AV1, 200, 16), (AV1, 3, 200), (H265, 8, 64), (H265, 64, 14)]
)
def test_a_size_at_which_an_encoder_hangs_or_fails_is_refused(
    codec: Codec, width: int, height: int
) -> None:
    with pytest.raises(BadInput, match=rf"at least .* got {width} x {height}. Choose another"):
        VideoSpec(width, height, 16, Encoding(codec))


@pytest.mark.parametrize(("codec", "side"), [(AV1, 31), (H265, 15), (H264, 1)])
def test_sides_count_as_they_are_rounded_up(codec: Codec, side: int) -> None:
    assert VideoSpec(side, 200, 16, Encoding(codec)).height == 200
