"""FRAMES: pictures as they come, from a rollout, from a file, or made of other FRAMES."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.mapped import Readable
from ...stream.metrics import Meter, Report
from ...stream.preview.album import Album
from ...stream.preview.messages import Plan, TakeFile, TakeStats
from ...stream.rollout.controls import Controls
from .. import host


class FrameSource:
    """What the socket carries, and all that outputs ask of it."""

    chunks: Readable[FrameChunk]
    fps: float
    width: int  # of a picture, in pixels
    height: int
    frame_total: int | None  # how many pictures there will be; None without an end
    chunk_count: int | None  # how many chunks; None where that is not known
    plan: Plan  # what was to be expected before the run
    plan_only: bool  # whether nothing is made
    controls: Controls
    album: Album
    meter: Meter | None = None  # what the making of the chunks measured
    resume_at_s: float | None = None  # where in the video the next run goes on

    def stats(self) -> TakeStats:
        """How it goes, for whoever watches."""
        raise NotImplementedError

    def report(self, output_files: list[str]) -> Report:
        """The facts about the run so far."""
        raise NotImplementedError

    def get_models(self) -> list[Any]:
        """The host asks this of a socket's value: models to keep while the prompt runs."""
        raise NotImplementedError

    def counts(self, written_bytes: Callable[[], int]) -> None:
        """Let a file that these frames are written to count where the disk's share is limited."""
        raise NotImplementedError

    def saved(self, file: host.OutputFile, role: str) -> None:
        """Tell whoever shows these frames of a finished file of them."""
        self.album.saved(TakeFile(file.name, file.subfolder, "output", role), host.prompt_id())


class DerivedFrames(FrameSource):
    """Frames made of those of `source`, which has all there is to know but their size."""

    def __init__(self, source: FrameSource, chunks: Readable[FrameChunk]) -> None:
        self.source, self.chunks, self.fps = source, chunks, source.fps
        self.album = Album()

    @property
    def frame_total(self) -> int | None:  # type: ignore[override]
        """As many pictures as the source has."""
        return self.source.frame_total

    @property
    def chunk_count(self) -> int | None:  # type: ignore[override]
        """As many chunks as the source has."""
        return self.source.chunk_count

    @property
    def plan(self) -> Plan:  # type: ignore[override]
        """The source's."""
        return self.source.plan

    @property
    def plan_only(self) -> bool:  # type: ignore[override]
        """Whether nothing is made of the source."""
        return self.source.plan_only

    @property
    def controls(self) -> Controls:  # type: ignore[override]
        """The source's."""
        return self.source.controls

    @property
    def meter(self) -> Meter | None:  # type: ignore[override]
        """What the making of the source's chunks measured."""
        return self.source.meter

    @property
    def resume_at_s(self) -> float | None:  # type: ignore[override]
        """The source's."""
        return self.source.resume_at_s

    def stats(self) -> TakeStats:
        """How the source goes."""
        return self.source.stats()

    def report(self, output_files: list[str]) -> Report:
        """The facts about the source's run so far, with the size of these frames."""
        return replace(self.source.report(output_files), width=self.width, height=self.height)

    def get_models(self) -> list[Any]:
        """The source's."""
        return self.source.get_models()

    def counts(self, written_bytes: Callable[[], int]) -> None:
        """To the source's share of the disk."""
        self.source.counts(written_bytes)
