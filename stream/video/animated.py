"""A GIF or an animated WebP, which is in its place when the stream has ended.

Neither can grow piece by piece. A cancelled run leaves what was made, a killed one nothing, and the
next run writes all pictures again from the journal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.filter import Graph
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ...machine.temporary_files import remove_leftovers, replacing
from ..lazy.frame_chunk import Pictures
from .failures import explain_failures
from .picture_stream import ONE_THREAD, require_encoder
from .spec import AnimatedPicture, VideoSpec

WEBP_QUALITY = "85"  # of 100
ENCODERS = {"gif": ("gif", "pal8"), "webp": ("libwebp_anim", "bgra")}


class EmptyFile(Exception):
    """Ends the temporary file of a video without pictures."""


class AnimatedFile:
    """Writes one animated picture. It holds the compressed pictures of a WebP until the end."""

    def __init__(self, path: Path, spec: VideoSpec, format: AnimatedPicture) -> None:
        name, self._pixels = ENCODERS[format.kind]
        require_encoder(name)
        self._path, self._frames = path, 0
        self._fit = Palettes(spec) if format.kind == "gif" else Opaque()
        self._tick = Fraction(1) / spec.rate
        with contextlib.ExitStack() as file, explain_failures(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent)
            self._temporary = file.enter_context(replacing(path))
            self._temporary.touch()  # FFmpeg makes it later, and it takes the number from others
            self._container = file.enter_context(
                av.open(self._temporary, "w", format=format.kind, options={"loop": "0"})
            )
            self._stream = self._add_stream(name, spec)
            self._file = file.pop_all()  # from now on, `close` ends the file

    def append(self, pictures: Pictures) -> int:
        before = self._size()
        with explain_failures(self._path):
            for picture in pictures:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = self._frames, self._tick
                self._frames += 1
                for shown in self._fit.convert(frame):
                    self._container.mux(self._stream.encode(shown))
        return self._size() - before

    def close(self, *, complete: bool) -> int:
        before = self._size()
        if not self._frames:
            self._container.close()
            with contextlib.suppress(EmptyFile), self._file:
                raise EmptyFile
            return 0
        with explain_failures(self._path), self._file:
            self._container.mux(self._stream.encode())
            self._container.close()
        return self._path.stat().st_size - before

    def _add_stream(self, encoder: str, spec: VideoSpec) -> VideoStream:
        options = {"quality": WEBP_QUALITY} if encoder == "libwebp_anim" else {}
        stream = self._container.add_stream(encoder, rate=spec.rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, self._pixels
        return stream

    def _size(self) -> int:
        return self._temporary.stat().st_size if self._temporary.exists() else 0


class Opaque:
    """The pictures of a WebP."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def convert(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        yield self._reformatter.reformat(frame, format="bgra", **ONE_THREAD)


class Palettes:
    """The pictures of a GIF, each with the 256 colours that suit it best, and dithered."""

    def __init__(self, spec: VideoSpec) -> None:
        self._graph = graph = Graph()  # its filters do not keep it alive
        self._source = graph.add_buffer(
            width=spec.width, height=spec.height, format=av.VideoFormat("rgb24"),
            time_base=1 / spec.rate,
        )  # fmt: skip
        copies = graph.add("split")
        palette = graph.add("palettegen", "stats_mode=single")
        use = graph.add("paletteuse", "new=1:dither=sierra2_4a")
        self._sink = graph.add("buffersink")
        self._source.link_to(copies)
        copies.link_to(palette, 0, 0)
        copies.link_to(use, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(self._sink)
        graph.configure()

    def convert(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        self._source.push(frame)
        with contextlib.suppress(av.BlockingIOError):  # there is no further picture yet
            while True:
                shown = self._sink.pull()
                assert isinstance(shown, av.VideoFrame)
                yield shown
