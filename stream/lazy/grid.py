"""Several videos as one: all of them in a grid, each with its name on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from .frame_chunk import FrameChunk
from .joined import ChunkProducer, Want

LABEL_SHARE = 14  # a label's letters are this part of a picture's height
MIN_LABEL = 9  # pixels
MARGIN = 2


@dataclass(slots=True)
class _Source:
    """What is there of one video: pictures (n, 3, H, W) not shown yet, and the last one shown."""

    pictures: Tensor
    last: Tensor | None = None
    ended: bool = False

    def take(self, count: int) -> Tensor:
        """The next pictures; of a video that has ended, its last one."""
        taken, self.pictures = self.pictures[:count], self.pictures[count:]
        if len(taken):
            self.last = taken[-1:]
        missing = count - len(taken)
        if missing and self.last is not None:
            taken = torch.cat([taken, self.last.expand(missing, -1, -1, -1)])
        return taken


@dataclass(frozen=True, slots=True)
class Grid:
    """`columns` videos side by side, in rows, each scaled to `width` x `height` pixels; `labels`
    name them.
    """

    labels: tuple[str, ...]
    width: int
    height: int
    columns: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole."""
        rows = math.ceil(len(self.labels) / self.columns)
        return self.width * self.columns, self.height * rows

    def made(self) -> ChunkProducer[FrameChunk, FrameChunk]:
        """The recipe: as many pictures at a time as every source has; one that has ended stands
        still.
        """
        sources = [_Source(torch.empty(0, 3, self.height, self.width)) for _ in self.labels]
        names = [_label(text, self.width, self.height) for text in self.labels]
        index, first_frame, newest = 0, 0, None
        while True:
            for number, source in enumerate(sources):
                if not source.ended and not len(source.pictures):
                    chunk = yield Want(number)
                    source.ended = chunk is None
                    if chunk is not None:
                        source.pictures = self._scaled(chunk.frames)
                        newest = chunk if number == 0 or newest is None else newest
            ready = [len(source.pictures) for source in sources if len(source.pictures)]
            if not ready or newest is None:
                return
            count = min(ready)
            parts = [
                _named(source.take(count), *name)
                for source, name in zip(sources, names, strict=True)
            ]
            yield FrameChunk(index, first_frame, self._laid_out(parts), newest.latents)
            index, first_frame = index + 1, first_frame + count

    def _scaled(self, pictures: Tensor) -> Tensor:
        if pictures.shape[2:] == (self.height, self.width):
            return pictures
        size = (self.height, self.width)
        return functional.interpolate(pictures, size, mode="bilinear", antialias=True)

    def _laid_out(self, parts: Sequence[Tensor]) -> Tensor:
        """Pictures of all videos as one (n, 3, H, W); what is empty is black."""
        width, height = self.size
        whole = torch.zeros(len(parts[0]), 3, height, width)
        for number, part in enumerate(parts):
            row, column = divmod(number, self.columns)
            top, left = row * self.height, column * self.width
            whole[:, :, top : top + self.height, left : left + self.width] = part
        return whole


def _label(text: str, width: int, height: int) -> tuple[Tensor, Tensor]:
    """A name, white on a dark ground: its picture (3, h, w) and how much it covers (1, h, w)."""
    font = ImageFont.load_default(max(MIN_LABEL, height // LABEL_SHARE))
    _, _, right, bottom = font.getbbox(text or " ")
    size = (min(width, int(right) + 2 * MARGIN), min(height, int(bottom) + 2 * MARGIN))
    ground = Image.new("RGB", size)
    ImageDraw.Draw(ground).text((MARGIN, MARGIN - 1), text, "white", font)
    picture = torch.from_numpy(np.asarray(ground).copy()).movedim(-1, 0) / 255
    cover = picture.amax(0, keepdim=True).clamp(min=0.6) * bool(text)
    return picture, cover


def _named(pictures: Tensor, label: Tensor, cover: Tensor) -> Tensor:
    """Pictures with a name in their upper left corner."""
    named = pictures.clone()
    rows, columns = label.shape[1:]
    corner = named[:, :, :rows, :columns]
    corner.copy_(corner * (1 - cover) + label * cover)
    return named
