"""A file's pictures are read as a player shows them: upright, in their shape and colours."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, VideoReformatter

from longtake.stream.video.display.upright import Upright
from longtake.stream.video.reading.reader import VideoReader
from longtake.stream.video.reading.source import FrameRequest, VideoClip, probe_size

WIDTH, HEIGHT = 64, 48
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
NAMES = {RED: "R", GREEN: "G", BLUE: "B", WHITE: "W"}
BT709, BT601, BT2020 = 1, 5, 9  # as FFmpeg's scaler numbers them
TAGS = {BT709: 1, BT601: 6, BT2020: 9}  # as ITU-T H.273 does


def quarters() -> np.ndarray:
    """Red and green above blue and white."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rows, columns = HEIGHT // 2, WIDTH // 2
    for number, colour in enumerate(NAMES):
        top, left = number // 2 * rows, number % 2 * columns
        picture[top : top + rows, left : left + columns] = colour
    return picture


def write(
    path: Path, *, aspect: Fraction = Fraction(1), matrix: int = BT601, full_range: bool = False
) -> Path:
    """Two pictures of four coloured quarters."""
    span = ColorRange.JPEG if full_range else ColorRange.MPEG
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
        context = stream.codec_context
        context.colorspace, context.color_range = TAGS[matrix], span
        context.sample_aspect_ratio = aspect
        for _ in range(2):
            frame = VideoReformatter().reformat(
                av.VideoFrame.from_ndarray(quarters(), format="rgb24"),
                format="yuv444p", dst_colorspace=matrix, dst_color_range=span,
            )  # fmt: skip
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def with_matrix(path: Path, right: tuple[int, int], down: tuple[int, int]) -> Path:
    """The file with another display matrix: where its right and its down are shown."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    values = (*right, 0, *down, 0, 0, 0, 1)
    units = (1 << 16, 1 << 16, 1 << 30)
    fixed = [value * units[number % 3] for number, value in enumerate(values)]
    content[at : at + 36] = struct.pack(">9i", *fixed)
    path.write_bytes(content)
    return path


def first_picture(path: Path) -> torch.Tensor:
    clip = VideoClip.probe(str(path), FrameRequest(Fraction(16)))
    picture = VideoReader(clip).read(1)
    assert picture is not None
    return (picture[0] * 255).round().int()


def corners(picture: torch.Tensor) -> str:
    """The nearest colour of each quarter, in reading order."""
    rows, columns = (side // 4 for side in picture.shape[1:])
    places = [(rows, columns), (rows, -columns), (-rows, columns), (-rows, -columns)]
    colours = [[255 * (value > 127) for value in picture[:, y, x].tolist()] for y, x in places]
    return "".join(NAMES[r, g, b] for r, g, b in colours)


@pytest.mark.parametrize(
    ("right", "down", "shown"),
    [((1, 0), (0, 1), "RGBW"), ((0, 1), (-1, 0), "BRWG"), ((-1, 0), (0, -1), "WBGR"),
     ((0, -1), (1, 0), "GWRB"), ((-1, 0), (0, 1), "GRWB"), ((1, 0), (0, -1), "BWRG"),
     ((0, 1), (1, 0), "RBGW"), ((0, -1), (-1, 0), "WGBR")],
)  # fmt: skip
def test_a_picture_is_turned_and_mirrored_as_its_file_says(
    tmp_path: Path, right: tuple[int, int], down: tuple[int, int], shown: str
) -> None:
    path = with_matrix(write(tmp_path / "x.mp4"), right, down)
    picture = first_picture(path)
    assert corners(picture) == shown
    size = (WIDTH, HEIGHT) if right[0] else (HEIGHT, WIDTH)
    assert probe_size(str(path))[1:] == size == tuple(picture.shape[:0:-1])


@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(4, 3), Fraction(1, 2)])
def test_pixels_that_are_not_square_are_shown_in_their_shape(
    tmp_path: Path, aspect: Fraction
) -> None:
    """As of DV, DVDs and 1440x1080 cameras."""
    path = write(tmp_path / "x.mp4", aspect=aspect)
    shown = round(WIDTH * aspect)
    assert probe_size(str(path))[1:] == (shown, HEIGHT)
    assert first_picture(path).shape == (3, HEIGHT, shown)
    turned = with_matrix(path, (0, 1), (-1, 0))
    assert first_picture(turned).shape == (3, shown, HEIGHT)
    square = VideoClip.probe(str(path), FrameRequest(Fraction(16), HEIGHT, HEIGHT))
    piece = VideoReader(square).read(1)
    assert piece is not None and corners((piece[0] * 255).round().int()) == "BRWG"


def test_a_shape_that_no_pixel_has_counts_as_square(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", aspect=Fraction(100))
    assert probe_size(str(path))[1:] == (WIDTH, HEIGHT)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", TAGS)
def test_colours_are_those_that_were_written(tmp_path: Path, matrix: int, full_range: bool) -> None:
    picture = first_picture(write(tmp_path / "x.mp4", matrix=matrix, full_range=full_range))
    error = picture - torch.from_numpy(quarters().astype(np.int32)).permute(2, 0, 1)
    assert error.abs().max() <= 3


def test_a_frame_without_a_matrix_stands_as_it_is() -> None:
    frame = av.VideoFrame.from_ndarray(quarters(), format="rgb24")
    assert Upright.of(frame) == Upright() and Upright().size(8, 4) == (8, 4)
