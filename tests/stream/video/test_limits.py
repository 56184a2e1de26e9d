"""What a format cannot hold is refused in a sentence, before a file begins."""

from __future__ import annotations

import pytest

from longtake.errors import BadInput
from longtake.stream.video.codecs import AV1, H264, H265, Codec, Encoding
from longtake.stream.video.spec import AnimatedPicture, VideoSpec


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


@pytest.mark.parametrize(("picture", "most"), [("gif", 50), ("webp", 90)])
def test_an_animated_picture_is_no_faster_than_browsers_show_it(picture: str, most: int) -> None:
    """A GIF counts in hundredths of a second; browsers show a frame of one for ten."""
    format = AnimatedPicture(picture)  # type: ignore[arg-type]
    assert VideoSpec(48, 32, most, format).rate == most
    with pytest.raises(BadInput, match=f"a {picture} at no more than {most} .* got 120. Set fps"):
        VideoSpec(48, 32, 120, format)
