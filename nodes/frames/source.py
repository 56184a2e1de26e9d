"""FRAMES: pictures as they come, from a rollout, from a file, or made of other FRAMES."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.mapped import Readable
from ...stream.metrics import Meter, Report
from ...stream.preview.album import Album
from ...stream.preview.messages import Plan, TakeFile, TakeStats
from ...stream.rollout.live.controls import Controls
from ...stream.work_meter import WorkMeter
from .. import host


class FrameSource(Protocol):
    """What a FRAMES socket carries: pictures in chunks, and the run that makes them."""

    @property
    def chunks(self) -> Readable[FrameChunk]:
        """The pictures; every reader begins at the first chunk."""

    @property
    def fps(self) -> float:
        """The number of pictures per second."""

    @property
    def width(self) -> int:
        """Picture width in pixels."""

    @property
    def height(self) -> int:
        """Picture height in pixels."""

    @property
    def frame_total(self) -> int | None:
        """How many pictures the stream has; None without an end."""

    @property
    def chunk_count(self) -> int | None:
        """How many chunks the stream has; None where that is not known."""

    @property
    def plan(self) -> Plan:
        """Length and memory, known before the run."""

    @property
    def plan_only(self) -> bool:
        """Whether the run is only planned, so that no picture comes."""

    @property
    def controls(self) -> Controls:
        """The live controls of the run."""

    @property
    def album(self) -> Album:
        """The previews that show these pictures."""

    @property
    def meter(self) -> Meter | None:
        """Measurements of the run; None before the first chunk."""

    @property
    def resume_at_s(self) -> float | None:
        """Where in the video the next run resumes, in seconds; None where nothing is missing."""

    def content_key(self, index: int) -> str | None:
        """Equal for equal pictures in chunk `index`, also in another run; None where unknown.

        The chunk must have been read, or be in the journal.
        """

    def chunk_of(self, frame: int) -> int | None:
        """The number of the chunk with picture number `frame`; None where that is not known."""

    def seed_of(self, frame: int) -> int | None:
        """The seed in force at picture number `frame`, which is made; None where nothing has one.

        After the end it is the last one.
        """

    def hold_edits(self, first_chunk: int) -> None:
        """Let live edits spare all that chunks before this one are made of."""

    def stats(self) -> TakeStats:
        """Speed, memory and state of the run, for the preview."""

    def report(self, output_files: list[str]) -> Report:
        """The facts about the run so far, and the files written from it."""

    def get_models(self) -> list[Any]:
        """Models that the host keeps loaded while the prompt runs."""

    def count_file(self, written_bytes: Callable[[], int]) -> None:
        """Count a file written from these frames towards the run's share of the disk."""


def announce_file(frames: FrameSource, file: host.OutputFile, role: str) -> None:
    """Tell the previews that show `frames` of a finished file."""
    frames.album.add_file(TakeFile(file.name, file.subfolder, "output", role), host.prompt_id())


class DerivedFrames:
    """Frames made of those of `source`; everything but the size and the album is the source's."""

    width: int
    height: int

    def __init__(self, source: FrameSource, chunks: Readable[FrameChunk]) -> None:
        self.source, self.chunks, self.fps = source, chunks, source.fps
        self.album = Album()

    @property
    def frame_total(self) -> int | None:
        return self.source.frame_total

    @property
    def chunk_count(self) -> int | None:
        return self.source.chunk_count

    @property
    def plan(self) -> Plan:
        return self.source.plan

    @property
    def plan_only(self) -> bool:
        return self.source.plan_only

    @property
    def controls(self) -> Controls:
        return self.source.controls

    @property
    def meter(self) -> Meter | None:
        return self.source.meter

    @property
    def stage_works(self) -> tuple[WorkMeter, ...]:
        return stage_works(self.source)

    @property
    def resume_at_s(self) -> float | None:
        return self.source.resume_at_s

    def content_key(self, index: int) -> str | None:
        return None

    def chunk_of(self, frame: int) -> int | None:
        return None

    def seed_of(self, frame: int) -> int | None:
        return self.source.seed_of(frame)

    def hold_edits(self, first_chunk: int) -> None:
        self.source.hold_edits(first_chunk)

    def stats(self) -> TakeStats:
        return self.source.stats()

    def report(self, output_files: list[str]) -> Report:
        """The source's report, with the size of these frames."""
        return replace(self.source.report(output_files), width=self.width, height=self.height)

    def get_models(self) -> list[Any]:
        return self.source.get_models()

    def count_file(self, written_bytes: Callable[[], int]) -> None:
        self.source.count_file(written_bytes)


def stage_works(frames: FrameSource) -> tuple[WorkMeter, ...]:
    """The times of all stages that frames passed; none for those of a file or a rollout itself."""
    return frames.stage_works if isinstance(frames, DerivedFrames) else ()


def content_key_by(source: str | None, own: str | None) -> str | None:
    """The address of what network `own` makes of chunk `source`; None where one is unknown."""
    if source is None or own is None:
        return None
    return hashlib.sha256(f"{source} {own}".encode()).hexdigest()
