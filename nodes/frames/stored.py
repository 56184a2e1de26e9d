"""FRAMES that exist before the run: of a video file, an IMAGE or a LATENT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.stream import Stream
from ...stream.metrics import Meter, Report
from ...stream.preview.album import Album
from ...stream.preview.messages import Plan, TakeStats
from ...stream.rollout.live.controls import Controls
from ...units import count_of

PIECE_FRAMES = 16


class StoredFrames:
    """`frame_total` pictures of one size; a subclass reads them, `chunk_count` pieces in order."""

    resume_at_s: float | None = None
    plan_only = False
    meter: Meter | None = None

    def __init__(
        self, size: tuple[int, int], fps: float, frame_total: int, chunk_count: int
    ) -> None:
        self.width, self.height = size
        self.fps, self.frame_total, self.chunk_count = fps, frame_total, chunk_count
        self.chunks: Stream[FrameChunk] = Stream(self._read, length=chunk_count)
        self.controls, self.album = Controls(), Album()

    @property
    def plan(self) -> Plan:
        """The length and size of the pictures."""
        seconds = self.frame_total / self.fps
        text = (
            f"{count_of(self.frame_total, 'frame')} of {self.width}x{self.height} ({seconds:.1f} s "
            f"at {self.fps:g} per second)"
        )
        return Plan(self.frame_total, seconds, self.chunk_count, 0, 0, True, text)

    def stats(self) -> TakeStats:
        """Measurements of the reading."""
        meter = self.meter or Meter()
        return TakeStats(first_frame_s=meter.first_frame_s, frames_per_s=meter.frames_per_s)

    def report(self, output_files: list[str]) -> Report:
        """Report the reading so far."""
        known = Report(
            width=self.width, height=self.height, fps_target=self.fps, output_files=output_files
        )
        return (self.meter or Meter()).report(known)

    def get_models(self) -> list[Any]:
        """Return the models that the host keeps loaded while the prompt runs; here none."""
        return []

    def content_key(self, index: int) -> str | None:
        """The address of the pictures up to the end of piece `index`; None where unknown."""
        return self._address(index) if 0 <= index < self.chunk_count else None

    def chunk_of(self, frame: int) -> int | None:
        """The piece with picture number `frame`, which is one of the `frame_total`."""
        return frame // PIECE_FRAMES

    def seed_of(self, frame: int) -> int | None:
        """Return None: these frames are not drawn."""
        return None

    def hold_edits(self, first_chunk: int) -> None:
        """Do nothing: nobody edits these frames while they are read."""

    def count_file(self, written_bytes: Callable[[], int]) -> None:
        """Ignore the file: these frames have an end, so no disk limit applies."""

    def _address(self, index: int) -> str | None:
        """The address of a piece that there is; a subclass without addresses returns None."""
        raise NotImplementedError

    def _read(self, first: int) -> Iterator[FrameChunk]:
        """Read the pieces from number `first` on, and measure them with a new meter."""
        raise NotImplementedError
