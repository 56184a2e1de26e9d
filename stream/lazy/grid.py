"""Arranges several videos in a grid, each with its label."""

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
from .joined import JoinSteps, NextChunk

PICTURE_HEIGHTS_PER_LABEL = 14  # letters are 1/14 of a picture's height
MIN_LABEL = 9  # pixels
MARGIN = 2


@dataclass(slots=True)
class _Source:
    """One video: pictures (n, 3, H, W) that wait, and the last one shown, at first a black one."""

    pictures: Tensor
    last: Tensor
    ended: bool = False

    def take(self, count: int) -> Tensor:
        """The next `count` pictures; after its end, a video repeats its last one."""
        pictures, self.pictures = self.pictures[:count], self.pictures[count:]
        if len(pictures):
            self.last = pictures[-1:]
        missing = count - len(pictures)
        return torch.cat([pictures, self.last.expand(missing, -1, -1, -1)])


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of `columns` videos, each scaled to `width` x `height` pixels and labelled."""

    labels: tuple[str, ...]
    width: int
    height: int
    columns: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the grid in pixels."""
        rows = math.ceil(len(self.labels) / self.columns)
        return self.width * self.columns, self.height * rows

    def join(self) -> JoinSteps[FrameChunk, FrameChunk]:
        """The steps of a `JoinedStream`. Each chunk has as many pictures as every source has.

        A source that has ended stands still; one without any picture, as of a dry run, is black.
        """
        none, black = (torch.zeros(count, 3, self.height, self.width) for count in (0, 1))
        sources = [_Source(none, black) for _ in self.labels]
        names = [_label(text, self.width, self.height) for text in self.labels]
        index, first_frame, newest = 0, 0, None
        while True:
            for number, source in enumerate(sources):
                if not source.ended and not len(source.pictures):
                    chunk = yield NextChunk(number)
                    source.ended = chunk is None
                    if chunk is not None:
                        source.pictures = self._scale(chunk.frames)
                        newest = chunk if number == 0 or newest is None else newest
            ready = [len(source.pictures) for source in sources if len(source.pictures)]
            if not ready or newest is None:
                return
            count = min(ready)
            parts = [
                _add_label(source.take(count), *name)
                for source, name in zip(sources, names, strict=True)
            ]
            yield FrameChunk(index, first_frame, self._arrange(parts), newest.latents)
            index, first_frame = index + 1, first_frame + count

    def _scale(self, pictures: Tensor) -> Tensor:
        if pictures.shape[2:] == (self.height, self.width):
            return pictures
        size = (self.height, self.width)
        return functional.interpolate(pictures, size, mode="bilinear", antialias=True)

    def _arrange(self, parts: Sequence[Tensor]) -> Tensor:
        """The pictures of all videos as one (n, 3, H, W); empty places are black."""
        width, height = self.size
        whole = torch.zeros(len(parts[0]), 3, height, width)
        for number, part in enumerate(parts):
            row, column = divmod(number, self.columns)
            top, left = row * self.height, column * self.width
            whole[:, :, top : top + self.height, left : left + self.width] = part
        return whole


def _label(text: str, width: int, height: int) -> tuple[Tensor, Tensor]:
    """A label, white on dark: its picture (3, h, w) and its opacity (1, h, w)."""
    font = ImageFont.load_default(max(MIN_LABEL, height // PICTURE_HEIGHTS_PER_LABEL))
    _, _, right, bottom = font.getbbox(text or " ")
    size = (min(width, int(right) + 2 * MARGIN), min(height, int(bottom) + 2 * MARGIN))
    ground = Image.new("RGB", size)
    ImageDraw.Draw(ground).text((MARGIN, MARGIN - 1), text, "white", font)
    picture = torch.from_numpy(np.asarray(ground).copy()).movedim(-1, 0) / 255
    cover = picture.amax(0, keepdim=True).clamp(min=0.6) * bool(text)
    return picture, cover


def _add_label(pictures: Tensor, label: Tensor, cover: Tensor) -> Tensor:
    """The pictures with a label in the upper left corner."""
    labelled = pictures.clone()
    rows, columns = label.shape[1:]
    corner = labelled[:, :, :rows, :columns]
    corner.copy_(corner * (1 - cover) + label * cover)
    return labelled
