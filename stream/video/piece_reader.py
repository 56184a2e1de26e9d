"""Single pictures of an unfinished video, each from its own piece: no other part is read."""

from __future__ import annotations

import io
from bisect import bisect_right
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..lazy.frame_chunk import Pictures
from .fragments import MATROSKA_CLUSTER
from .pieces import PieceLog
from .spec import FRAME_NAME, VideoSpec

MP4_FRAGMENT = b"moof"


class PieceReader:
    """Reads the pictures of a video by their numbers; holds one piece."""

    def __init__(self, log: PieceLog, spec: VideoSpec) -> None:
        self._width, self._height = spec.width, spec.height
        self._video, self._pieces = log.video, log.pieces
        self._index: int | None = None
        self._pictures: list[Pictures] = []

    def picture(self, number: int) -> Tensor:
        """Frame `number` as (3, H, W) in [0, 1]."""
        if self._video.is_dir():
            with Image.open(self._video / (FRAME_NAME % number)) as image:
                picture: Pictures = np.array(image.convert("RGB"))
        else:
            index = bisect_right([piece.frames for piece in self._pieces], number)
            if index != self._index:
                self._index, self._pictures = index, _decode(self._read(index))
            picture = self._pictures[number - (self._pieces[index - 1].frames if index else 0)]
        picture = picture[: self._height, : self._width]  # most codecs round odd sizes up
        return torch.from_numpy(picture).permute(2, 0, 1).float() / 255

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
        return first.index(MP4_FRAGMENT) - 4  # after the size of the box
    return first.index(MATROSKA_CLUSTER)


def _decode(file: bytes) -> list[Pictures]:
    with av.open(io.BytesIO(file)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
