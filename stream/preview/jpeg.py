"""Packs the frames of a chunk, as JPEG files, into one blob for the player.

b"LTF1", u16 width, u16 height, u32 n, n times u32 size, then the n files; all big-endian
"""

from __future__ import annotations

import io
import struct
from itertools import accumulate, pairwise

from PIL import Image

from ..lazy.frame_chunk import Pictures

MAGIC = b"LTF1"
MAX_SIDE = 65_500  # of a JPEG file in pixels, as libjpeg writes it; larger pictures are shrunk
QUALITY = 85  # about 75 KB per frame at 832x480, without visible blocks in motion


def pack_frames(pictures: Pictures) -> bytes:
    """Encode pictures (n, H, W, 3) and pack the files."""
    files = [_jpeg(Image.fromarray(picture)) for picture in pictures]
    count, *sides = pictures.shape[:3]
    height, width = _shrunk(*sides)
    sizes = struct.pack(f">{count}I", *(len(file) for file in files))
    return b"".join((MAGIC, struct.pack(">HHI", width, height, count), sizes, *files))


def unpack_files(packed: bytes) -> list[bytes]:
    """The JPEG files that `pack_frames` packed."""
    (count,) = struct.unpack_from(">I", packed, len(MAGIC) + 4)
    sizes = struct.unpack_from(f">{count}I", packed, len(MAGIC) + 8)
    ends = list(accumulate(sizes, initial=len(MAGIC) + 8 + 4 * count))
    return [packed[start:end] for start, end in pairwise(ends)]


def _shrunk(height: int, width: int) -> tuple[int, int]:
    """Height and width of a picture that a JPEG file can hold."""
    scale = min(1.0, MAX_SIDE / max(height, width))
    return max(1, int(height * scale)), max(1, int(width * scale))


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    height, width = _shrunk(image.height, image.width)
    if (width, height) != image.size:
        image = image.resize((width, height))
    image.save(file, format="JPEG", quality=QUALITY)
    return file.getvalue()
