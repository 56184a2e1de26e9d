"""Encodes chunks of frames as self-contained pieces that are appended to a video file.

Such a file is playable after every piece. An interruption costs at most the piece being written.
Each piece is muxed in memory as a file of its own, and its header is cut off. Every piece begins
with a key frame.

    MP4, MOV        ftyp moov | moof mdat | moof mdat | ...
    Matroska, WebM  EBML Segment Info Tracks | Cluster | ...

The sound of a `SoundTrack` lies between the pictures of its time.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer

from ..lazy.frame_chunk import Pictures
from .codecs import Encoding
from .picture_stream import PictureEncoder
from .sound.track import SoundTrack
from .spec import NO_METADATA

if TYPE_CHECKING:
    from .sound.track import SoundPacket

MATROSKA_CLUSTER = b"\x1f\x43\xb6\x75"
VIDEO, SOUND = 1, 2  # track numbers in MP4
FRAGMENT = "frag_custom+empty_moov+default_base_moof+skip_trailer+use_metadata_tags"


class MP4Fragments:
    """Pieces of an MP4 or MOV file.

    Every fragment holds the sound of its time too. An edit list in the header compensates for the
    delay of the sound encoder.
    """

    def __init__(
        self,
        fps: Fraction,
        encoding: Encoding,
        track: SoundTrack | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> None:
        self._fps = fps
        self._container = encoding.codec.container
        self._pictures = PictureEncoder(encoding)
        self._track = track
        self._metadata = metadata
        self._frames = 0
        self._fragments = 0

    def encode(self, pictures: Pictures) -> bytes:
        """The bytes that add `pictures` to the file."""
        self._sample = pictures[:1]
        header = b"" if self._fragments else self._header(pictures)
        start, self._frames = self._frames, self._frames + len(pictures)
        sound = self._track.packets_until(self._frames / self._fps) if self._track else []
        return header + self._fragment(pictures, start, sound)

    def skip(self, ends: Sequence[int]) -> None:
        """Go on after pieces that the file has; `ends` are their frames, counted from the start."""
        self._fragments = len(ends)
        self._frames = _skip_sound(self._track, self._fps, ends)

    def finish(self) -> bytes:
        """The bytes of the remaining sound."""
        packets = self._track.drain() if self._track and self._fragments else []
        return (
            self._fragment(self._sample, self._frames, packets, visible=False) if packets else b""
        )

    def _header(self, pictures: Pictures) -> bytes:
        """The boxes before all fragments, which describe the sound track from the beginning."""
        sound = self._track.silence() if self._track else []
        flags = f"{FRAGMENT}+delay_moov" if sound else FRAGMENT
        file, _ = self._mux_file(self._sample, sound, flags)
        return b"".join(box for kind, box in boxes(file) if kind in (b"ftyp", b"moov"))

    def _fragment(
        self, pictures: Pictures, start: int, sound: Sequence[SoundPacket], *, visible: bool = True
    ) -> bytes:
        """Encode pictures from number `start` on, and sound.

        If not `visible`, `pictures` only give the size of a fragment with sound alone.
        """
        ticks = {}
        if self._track and sound:
            first = sound[0].pts or 0
            ticks[SOUND] = first + self._track.delay
            for packet in sound:
                packet.pts = packet.dts = (packet.pts or 0) - first
        file, timescale = self._mux_file(pictures, sound, FRAGMENT, visible=visible)
        ticks[VIDEO] = int(start / self._fps / timescale)
        self._fragments += 1
        return b"".join(
            _set_decode_times(box, ticks) if kind == b"moof" else box
            for kind, box in boxes(file)
            if kind in (b"moof", b"mdat")
        )

    def _mux_file(
        self, pictures: Pictures, sound: Sequence[SoundPacket], flags: str, *, visible: bool = True
    ) -> tuple[memoryview, Fraction]:
        """A complete file, and the length of a tick of its video clock in seconds."""
        file, number = io.BytesIO(), str(self._fragments + 1)
        options = {"movflags": flags, "fragment_index": number}
        with av.open(file, "w", format=self._container, options=options) as container:
            container.metadata.update(self._metadata)
            stream = self._pictures.add_stream(container, self._fps, pictures)
            audio = self._track.add_to(container) if self._track else None
            container.start_encoding()
            shown = self._pictures.frames(pictures) if visible else ()
            for place, frame in enumerate(shown):
                frame.pts = place
                container.mux(stream.encode(frame))
            if visible:
                container.mux(stream.encode())
            _mux(container, audio, sound)
            timescale = _time_base(stream.time_base)
        return file.getbuffer(), timescale


class MatroskaClusters:
    """Pieces of a Matroska or WebM file, which are its clusters."""

    def __init__(
        self,
        fps: Fraction,
        encoding: Encoding,
        track: SoundTrack | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> None:
        self._fps = fps
        self._container = encoding.codec.container
        self._pictures = PictureEncoder(encoding)
        self._track = track
        self._metadata = metadata
        self._frames = 0

    def encode(self, pictures: Pictures) -> bytes:
        """The bytes that add `pictures` to the file."""
        first, self._frames = self._frames, self._frames + len(pictures)
        self._sample = pictures[:1]
        sound = self._track.packets_until(self._frames / self._fps) if self._track else []
        piece = self._mux_file(pictures, first, sound)
        return piece[piece.index(MATROSKA_CLUSTER) :] if first else piece

    def skip(self, ends: Sequence[int]) -> None:
        """Go on after pieces that the file has; `ends` are their frames, counted from the start."""
        self._frames = _skip_sound(self._track, self._fps, ends)

    def finish(self) -> bytes:
        """The bytes of the remaining sound."""
        packets = self._track.drain() if self._track and self._frames else []
        if not packets:
            return b""
        piece = self._mux_file(self._sample, self._frames, packets, visible=False)
        return piece[piece.index(MATROSKA_CLUSTER) :]

    def _mux_file(
        self, pictures: Pictures, first: int, sound: Sequence[SoundPacket], *, visible: bool = True
    ) -> bytes:
        """A complete file with sound and, if `visible`, pictures from number `first` on."""
        file = io.BytesIO()
        # `live` writes a segment of unknown size, the only kind that may grow.
        with av.open(file, "w", format=self._container, options={"live": "1"}) as container:
            container.metadata.update(NO_METADATA if first else self._metadata)
            stream = self._pictures.add_stream(container, self._fps, pictures)
            audio = self._track.add_to(container) if self._track else None
            container.start_encoding()
            _mux(container, audio, sound)
            shown = self._pictures.frames(pictures) if visible else ()
            for place, frame in enumerate(shown, first):
                frame.pts = place
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return file.getvalue()


def _skip_sound(track: SoundTrack | None, fps: Fraction, ends: Sequence[int]) -> int:
    """Encode the sound of earlier pieces again, since the next packets depend on it."""
    for end in ends if track is not None else ():
        assert track is not None
        track.packets_until(end / fps)
    return ends[-1]


def _mux(
    container: OutputContainer, audio: AudioStream | None, sound: Sequence[SoundPacket]
) -> None:
    for packet in sound:
        assert audio is not None, "packets need a track"
        packet.stream = audio
        container.mux(packet)


def boxes(file: memoryview) -> Iterator[tuple[bytes, bytes]]:
    """The top-level boxes of an MP4 file (ISO/IEC 14496-12, 4.2): 32-bit size, type, body."""
    start = 0
    while start < len(file):
        box_bytes, kind = struct.unpack_from(">I4s", file, start)
        if box_bytes == 1:  # a 64-bit size follows
            (box_bytes,) = struct.unpack_from(">Q", file, start + 8)
        yield kind, bytes(file[start : start + box_bytes])
        start += box_bytes


def _set_decode_times(moof: bytes, ticks: Mapping[int, int]) -> bytes:
    """Set the decode time of each track's fragment (box `traf`) to its `ticks`.

    The time is the 64 bits after type and flags of box `tfdt` (8.8.12, version 1). The track's
    number follows type and flags of box `tfhd` (8.8.7).
    """
    moved, place = bytearray(moof), 0
    while (place := moved.find(b"traf", place + 1)) > 0:
        (track,) = struct.unpack_from(">I", moved, moved.index(b"tfhd", place) + 8)
        struct.pack_into(">Q", moved, moved.index(b"tfdt", place) + 8, ticks[track])
    return bytes(moved)


def _time_base(time_base: Fraction | None) -> Fraction:
    assert time_base is not None, "a muxed stream has a time base"
    return time_base
