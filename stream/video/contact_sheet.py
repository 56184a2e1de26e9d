"""A contact sheet: evenly picked frames of a video in a grid, collected while it streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from ...errors import StorageError
from ...machine.temporary_files import remove_leftovers, replacing
from ..lazy.frame_chunk import Pictures, to_pictures
from ..timecode import time_label
from .picture_texts import png_texts
from .spec import NO_METADATA

MARGIN = 4
TALLEST = 2
"""Heights of a tile, in its widths: a tile of a portrait of 9:16 takes 1.8."""
COMPRESSION = 4
"""As in ComfyUI's Save Image: half of the time of PNG's usual 6, for a twentieth more bytes."""
BACKGROUND = (16, 16, 16)
LABEL = (255, 255, 255)
LEVELS_OF_16_BITS = 257
"""Levels of 16 bits for each of 8 bits: 65535 is 257 times 255."""


class ContactSheet:
    """Collects thumbnails, always fewer than twice as many as the sheet shows.

    Every `stride`-th frame is kept. When there are too many, every other one is dropped and the
    stride doubles.
    """

    def __init__(
        self, *, fps: float, columns: int = 4, rows: int = 5, tile_width: int = 192
    ) -> None:
        if min(columns, rows, tile_width) < 1 or not fps > 0:
            raise ValueError(
                f"columns, rows, tile_width and fps must be positive; "
                f"got {columns}, {rows}, {tile_width} and {fps}"
            )
        self._fps = fps
        self._columns = columns
        self._tiles = columns * rows
        self._tile_width, self._tile_height = tile_width, TALLEST * tile_width
        self._stride = 1
        self._frames = 0
        self._kept: list[tuple[int, Image.Image]] = []

    @property
    def frames(self) -> int:
        """The number of frames added so far."""
        return self._frames

    def add(self, pictures: Pictures) -> None:
        """Add the next pictures `(n, H, W, 3)`; keeps no reference to them."""
        coming = range(self._frames, self._frames + len(pictures))
        self._frames = coming.stop
        self._thin_out()
        first = -coming.start % self._stride
        numbers, picked = coming[first :: self._stride], pictures[first :: self._stride]
        self._kept += zip(numbers, map(self._tile_of, picked), strict=True)

    def add_earlier(self, count: int, picture: Callable[[int], Tensor]) -> None:
        """Begin as if `count` frames had been added; `picture` gives those that are needed."""
        self._frames = count
        self._thin_out()
        numbers = range(0, count, self._stride)
        self._kept = [
            (number, self._tile_of(to_pictures(picture(number)[None])[0])) for number in numbers
        ]

    def save(self, path: Path, metadata: Mapping[str, str] = NO_METADATA) -> None:
        """Write the sheet as PNG with these texts; ValueError if no frame was added."""
        if not self._kept:
            raise ValueError("a contact sheet needs at least one frame")
        sheet = self._draw([(number, self._resize(tile)) for number, tile in self._pick()])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent)
            with replacing(path) as temporary:
                texts = png_texts(metadata)
                sheet.save(temporary, format="PNG", pnginfo=texts, compress_level=COMPRESSION)
        except OSError as error:
            raise StorageError(
                f"The contact sheet {path} cannot be written ({error.strerror or error}); "
                f"free some space or choose another folder."
            ) from error

    def _thin_out(self) -> None:
        """Double the stride until few enough of the frames so far are kept, and drop the others."""
        while -(-self._frames // self._stride) >= 2 * self._tiles:
            self._stride *= 2
        self._kept = [entry for entry in self._kept if entry[0] % self._stride == 0]

    def _tile_of(self, pixels: Pictures) -> Image.Image:
        """A picture (H, W, 3), no larger than a tile.

        A smaller one stays so until the sheet is drawn: most tiles are dropped before.
        """
        picture = Image.fromarray(_in_8_bits(pixels))
        is_small = picture.width < self._tile_width and picture.height < self._tile_height
        return picture if is_small else self._resize(picture)

    def _resize(self, picture: Image.Image) -> Image.Image:
        """The picture as large as a tile: `tile_width` wide, or less wide where it is very tall."""
        scale = min(self._tile_width / picture.width, self._tile_height / picture.height)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        # Pillow stays on this thread. Torch would start all its threads for each of these moments.
        return picture.resize(size, Image.Resampling.BILINEAR)

    def _pick(self) -> list[tuple[int, Image.Image]]:
        """Pick one frame per tile, evenly from the first to the last."""
        if len(self._kept) <= self._tiles:
            return self._kept
        steps = max(1, self._tiles - 1)
        return [self._kept[place * (len(self._kept) - 1) // steps] for place in range(self._tiles)]

    def _draw(self, picked: list[tuple[int, Image.Image]]) -> Image.Image:
        width, height = (side + MARGIN for side in picked[0][1].size)
        columns = min(self._columns, len(picked))
        rows = -(-len(picked) // columns)
        sheet = Image.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), BACKGROUND)
        pen = ImageDraw.Draw(sheet)
        for place, (number, tile) in enumerate(picked):
            left, top = MARGIN + place % columns * width, MARGIN + place // columns * height
            sheet.paste(tile, (left, top))
            _write_below(pen, time_label(number / self._fps), left, top + tile.height)
        return sheet


def _in_8_bits(pixels: Pictures) -> Pictures:
    if pixels.dtype == np.uint8:
        return pixels
    fewer: Pictures = np.rint(pixels / np.float32(LEVELS_OF_16_BITS)).astype(np.uint8)
    return fewer


def _write_below(pen: ImageDraw.ImageDraw, label: str, left: int, bottom: int) -> None:
    """Write a label into the lower left corner; a grid's labels use the upper left one."""
    box = pen.textbbox((left + 2, 0), label)
    place = (left + 2, bottom - 2 - box[3])
    pen.rectangle(pen.textbbox(place, label), fill=BACKGROUND)
    pen.text(place, label, fill=LABEL)
