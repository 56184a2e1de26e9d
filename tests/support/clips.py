"""Videos with sound made for the tests, by PyAV alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from torch import Tensor

from longtake.stream.lazy.frame_chunk import to_pictures
from longtake.stream.video.reading.reader import VideoReader
from longtake.stream.video.reading.source import VideoClip
from longtake.tests.support.numbered_frames import number_in, numbered_frames

Samples = npt.NDArray[np.float32]


def beeps(seconds: float, rate: int, channels: int = 2) -> Samples:
    """A tone that rises all the time, so that no two moments sound alike: (channels, n)."""
    t = np.arange(round(seconds * rate)) / rate
    tone = 0.4 * np.sin(2 * np.pi * (200 * t + 100 * t**2))
    return np.stack([tone * (1 - 0.5 * c) for c in range(channels)]).astype(np.float32)


def heard(path: Path) -> Samples:
    """The sound of a file from time 0 on, as a player would have it."""
    with av.open(path) as container:
        track = container.streams.audio[0]
        even = av.AudioResampler(format="fltp", layout=track.layout, rate=track.rate)
        parts, at = [], None
        for frame in container.decode(track):
            if at is None:
                at = round(float(frame.pts * frame.time_base) * track.rate)
            parts += [made.to_ndarray() for made in even.resample(frame)]
    if not parts:
        return np.zeros((2, 0), np.float32)
    joined = np.concatenate(parts, 1)
    return np.pad(joined, ((0, 0), (at, 0))) if at >= 0 else joined[:, -at:]


def pieces(clip: VideoClip, first: int = 0, count: int = 16) -> Iterator[Tensor]:
    """All of a clip's frames from number `first` on, `count` at a time."""
    reader = VideoReader(clip, first)
    return iter(lambda: reader.read(count), None)


def open_files(path: Path) -> int:
    """How often this process has that file open."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("only Linux lists open files so")
    targets = []
    for link in folder.iterdir():
        with contextlib.suppress(OSError):  # the folder itself, closed by now
            targets.append(link.readlink())
    return targets.count(path.resolve())


def numbers(frames: Tensor) -> list[int]:
    """Which numbered frames (n, 3, H, W) these are."""
    return [number_in(picture) for picture in to_pictures(frames)]


def write_clip(  # noqa: PLR0913
    path: Path, frames: int, fps: Fraction | int = 16, size: tuple[int, int] = (96, 64),
    sound: Samples | None = None, rate: int = 48000, codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """Numbered pictures, and sound from time 0 on (FLAC in Matroska, else AAC)."""
    with av.open(path, "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=fps)
        video.width, video.height = size
        video.pix_fmt = "yuv420p" if codec in ("libx264", "libx265", "mpeg4") else "bgr0"
        audio = None
        if sound is not None:
            name, layout = ("flac" if path.suffix == ".mkv" else "aac"), ("mono", "stereo")
            audio = container.add_stream(name, rate=rate, layout=layout[len(sound) - 1])
            audio.bit_rate = 96_000 * len(sound)
        for number in range(frames):
            [picture] = to_pictures(numbered_frames(number, 1, *size))
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(video.encode())
        if audio is not None and sound is not None:
            layout = ("mono", "stereo")[len(sound) - 1]
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), "fltp", layout)
            block.sample_rate = rate
            fifo = av.AudioFifo()
            fifo.write(block)
            for n, part in enumerate(fifo.read_many(1024, partial=True)):
                part.pts, part.time_base = 1024 * n, Fraction(1, rate)
                container.mux(audio.encode(part))
            container.mux(audio.encode())
