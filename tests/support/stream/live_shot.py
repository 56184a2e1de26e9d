"""Runs that show numbered frames at one live address, and what their viewers receive."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image

from longtake.stream.preview.messages import Ending, Origin, Shot, TakeStats
from longtake.stream.preview.take import Take
from longtake.stream.preview.takes import Limits, Takes
from longtake.tests.support.numbered_frames import number_in, numbered_frames

WIDTH, HEIGHT = 128, 96


class LiveShot:
    """A store with runs of one node, one after the other; frame numbers go on from run to run."""

    def __init__(
        self, folder: Path, fps: float = 16.0, size: tuple[int, int] = (WIDTH, HEIGHT),
        limits: Limits | None = None,
    ) -> None:  # fmt: skip
        self.takes = Takes(lambda: folder, limits or Limits())
        self.fps, self.size = fps, size
        self.frames = 0
        self.grain = 0.0  # of the pictures, so that they take more bytes
        self.take = self.run()

    def run(self) -> Take:
        """Begin the next run; the one before ends."""
        if self.frames or self.takes.newest(""):
            self.take.finish(Ending("done"))
            self.take.join()
        origin = Origin("7", "7", "prompt", None, "page")
        self.take = self.takes.create(Shot(self.fps, *self.size), origin, lambda *_: None)
        return self.take

    @property
    def token(self) -> str:
        """The token of the live address."""
        return str(self.take.summary()["live"])

    def add(self, count: int = 4) -> None:
        """Make one more chunk, and wait until it is encoded."""
        frames = numbered_frames(self.frames, count, *self.size, grain=self.grain)
        self.take.show(frames, self.frames, "", TakeStats())
        self.frames += count
        while self.take.waiting_bytes:
            pass

    def newest(self) -> Take | None:
        """The newest run."""
        return self.takes.newest(self.token)


def jpeg_number(jpeg: bytes) -> int:
    """The number of the frame in a JPEG file."""
    return number_in(np.asarray(Image.open(io.BytesIO(jpeg))))


def video_numbers(content: bytes, container: str) -> Iterator[int]:
    """The numbers of the frames in the bytes that a viewer received, up to a cut."""
    with av.open(io.BytesIO(content), format=container) as file:
        try:
            for frame in file.decode(video=0):
                yield number_in(frame.to_ndarray(format="rgb24"))
        except av.FFmpegError:  # the last packet is cut
            return
