"""Single pictures of an unfinished video, each from its own piece: no other part is read."""

from __future__ import annotations

import io
import logging
from bisect import bisect_right
from itertools import takewhile
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..lazy.frame_chunk import Pictures
from .fragments import MATROSKA_CLUSTER, boxes
from .pieces import PieceLog
from .spec import FRAME_NAME, VideoSpec

logger = logging.getLogger("longtake")

MP4_FRAGMENT = b"moof"
UNREADABLE = (OSError, av.FFmpegError, IndexError)
"""What a damaged piece raises; IndexError where the piece has fewer pictures."""


class PieceReader:
    """Reads the pictures of a video by their numbers; holds one piece.

    A picture that cannot be read is black, and the log says so once: a shot that goes on does not
    end for want of a thumbnail.
    """

    def __init__(self, log: PieceLog, spec: VideoSpec) -> None:
        self._width, self._height = spec.width, spec.height
        self._video, self._pieces = log.video, log.pieces
        self._index: int | None = None
        self._pictures: list[Pictures] = []
        self._told = False

    def picture(self, number: int) -> Tensor:
        """Frame `number` as (3, H, W) in [0, 1]."""
        try:
            picture = self._picture(number)
        except UNREADABLE as error:
            self._tell(number, error)
            picture = np.zeros((self._height, self._width, 3), np.uint8)
        return torch.from_numpy(picture).permute(2, 0, 1).float() / 255

    def _picture(self, number: int) -> Pictures:
        if self._video.is_dir():
            with Image.open(self._video / (FRAME_NAME % number)) as image:
                picture: Pictures = np.array(image.convert("RGB"))
        else:
            index = bisect_right([piece.frames for piece in self._pieces], number)
            if index != self._index:
                self._pictures = _decode(self._read(index))
                self._index = index
            picture = self._pictures[number - (self._pieces[index - 1].frames if index else 0)]
        return picture[: self._height, : self._width]  # most codecs round odd sizes up

    def _tell(self, number: int, error: Exception) -> None:
        if not self._told:
            logger.warning(
                "Frame %d of the unfinished video %s cannot be read for the contact sheet (%s); "
                "such pictures are black there, and the video goes on.",
                number, self._video, error,
            )  # fmt: skip
        self._told = True

    def _read(self, index: int) -> bytes:
        """A complete file: the header of the video, and one piece."""
        starts = [0, *(piece.size for piece in self._pieces)]
        with self._video.open("rb") as file:
            first = file.read(starts[1])
            file.seek(starts[index])
            piece = file.read(starts[index + 1] - starts[index])
        return first if index == 0 else first[: _header_bytes(self._video, first)] + piece


def _header_bytes(video: Path, first: bytes) -> int:
    if video.suffix in (".mp4", ".mov"):
        before = takewhile(lambda box: box[0] != MP4_FRAGMENT, boxes(memoryview(first)))
        return sum(len(box) for _, box in before)  # a text of the workflow may hold the letters
    return first.index(MATROSKA_CLUSTER)


def _decode(file: bytes) -> list[Pictures]:
    with av.open(io.BytesIO(file)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
