"""The frames of a chunk as JPEG files."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from longtake.stream.preview.jpeg import MAGIC, MAX_SIDE, pack_frames, unpack_files


@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [(4, 70_000, (3, MAX_SIDE)), (70_000, 1, (MAX_SIDE, 1)), (4, MAX_SIDE, (4, MAX_SIDE))],
)
def test_a_picture_that_no_jpeg_can_hold_is_shrunk(
    height: int, width: int, shown: tuple[int, int]
) -> None:
    packed = pack_frames(np.zeros((2, height, width, 3), np.uint8))
    assert struct.unpack_from(">HHI", packed, len(MAGIC)) == (shown[1], shown[0], 2)
    for file in unpack_files(packed):
        with Image.open(io.BytesIO(file)) as picture:
            assert picture.size == (shown[1], shown[0])
