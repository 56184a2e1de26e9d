"""How many bytes a video file lacks at its end, by the sizes that the file itself states.

Times do not tell: FFmpeg takes an AVI's length from its size, Matroska states the longest track's,
and edit lists and sound make lengths differ in whole files. Sizes of AVI, MP4, MOV, Matroska and
WebM are exact. Files that were streamed state none, and MPEG-TS and GIF have none.
"""

from __future__ import annotations

import io
import os
from typing import BinaryIO

Source = str | io.BytesIO
TOLERANCE_BYTES = 16  # some AVIs count the eight bytes before their content
BOXES = {
    b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"sidx", b"styp",
    b"uuid", b"udta", b"meta", b"emsg",
}  # fmt: skip
EBML, SEGMENT, VOID = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\xec"
UNKNOWN = 0xFFFFFFFF


def missing_bytes(source: Source) -> tuple[int, int]:
    """How many bytes a file lacks, and how many it would have; (0, size) where nothing tells."""
    file = open(source, "rb") if isinstance(source, str) else io.BytesIO(source.getvalue())  # noqa: SIM115
    with file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(12)
        end = 0
        if start[:4] == b"RIFF" and start[8:] == b"AVI ":
            end = _end_of_riff(file, size)
        elif start[4:8] in BOXES:
            end = _end_of_boxes(file, size)
        elif start[:4] == EBML:
            end = _end_of_segment(file)
    missing = end - size
    return (missing, end) if missing > TOLERANCE_BYTES else (0, size)


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """The end of the last RIFF part: a large AVI has several. 0 for a file that was streamed."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or len(head) < 8 or length in (0, UNKNOWN):
            break
        place += 8 + length + length % 2
    return place


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """The end of the last box that is known; what follows, such as zeros, states nothing."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if head[4:8] not in BOXES or length < 8:  # a length of 0: to the end of the file
            break
        place += length
    return place


def _end_of_segment(file: BinaryIO) -> int:
    """The end of the first segment; 0 for a file that was streamed."""
    file.seek(0)
    while True:
        name = _read_number(file, keep_mark=True)[0]
        length, is_known = _read_number(file)
        if name == int.from_bytes(SEGMENT, "big") and is_known:
            return file.tell() + length
        if name not in (int.from_bytes(EBML, "big"), int.from_bytes(VOID, "big")):
            return 0
        file.seek(length, os.SEEK_CUR)


def _read_number(file: BinaryIO, *, keep_mark: bool = False) -> tuple[int, bool]:
    """A number of EBML, whose first byte tells its length; False where all its bits are 1."""
    first = file.read(1)
    if not first or not first[0]:
        return 0, False
    count = 9 - first[0].bit_length()
    number = int.from_bytes(first + file.read(count - 1), "big")
    value = number & ((1 << (7 * count)) - 1)
    return (number if keep_mark else value), value != (1 << (7 * count)) - 1
