"""FRAMES that combine several FRAMES."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...errors import BadInput
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.joined import JoinedStream
from ...stream.metrics import Report
from ...stream.preview.joint_controls import JointControls
from ...stream.preview.messages import TakeStats
from ...stream.rollout.live.controls import Controls
from ...stream.video.frame_rate import is_same_rate
from ...stream.work_meter import WorkMeter
from .decoded import HostFrames
from .source import DerivedFrames, FrameSource, stage_works


class JoinedFrames(DerivedFrames):
    """Frames of several sources as one stream.

    Plan and measurements are those of the first generated source, with the time of all stages. The
    controls are those of all that are generated.
    """

    def __init__(
        self,
        sources: Sequence[FrameSource],
        chunks: JoinedStream[FrameChunk, FrameChunk],
        size: tuple[int, int],
        total: int | None,
    ) -> None:
        generated = [source for source in sources if not _is_from_file(source)]
        super().__init__(generated[0] if generated else sources[0], chunks)
        self.sources, self._generated = sources, generated
        self._controls: Controls | None = None
        self.width, self.height = size
        self._total = total

    @property
    def controls(self) -> Controls:
        """The live controls of all runs in progress; those of the run if only one makes frames."""
        runs = [source.controls for source in self._generated or [self.source]]
        members = tuple(dict.fromkeys(run for each in runs for run in each.members))
        if self._controls is None or self._controls.members != members:
            self._controls = members[0] if len(members) == 1 else JointControls(members)
        return self._controls

    @property
    def stage_works(self) -> tuple[WorkMeter, ...]:
        """The times of the stages of all sources, which work for the same second of video."""
        works = [work for source in self.sources for work in stage_works(source)]
        return tuple(work for i, work in enumerate(works) if work not in works[:i])

    def stats(self) -> TakeStats:
        """The measurements of the first generated source, with the time of all stages."""
        return replace(super().stats(), stage_factor=_factor(self.stage_works))

    def report(self, output_files: list[str]) -> Report:
        """The same of its report."""
        return replace(super().report(output_files), stage_factor=_factor(self.stage_works))

    @property
    def chunk_count(self) -> int | None:
        """The number of chunks, None if unknown."""
        return self.chunks.length

    @property
    def frame_total(self) -> int | None:
        """The number of pictures, None without an end."""
        return self._total

    @property
    def plan_only(self) -> bool:
        """Whether any source is a dry run."""
        return any(source.plan_only for source in self.sources)

    def get_models(self) -> list[Any]:
        """Return the models that the host keeps loaded while the prompt runs."""
        models = [model for source in self.sources for model in source.get_models()]
        return [model for i, model in enumerate(models) if model not in models[:i]]


def _factor(works: Sequence[WorkMeter]) -> float | None:
    """Seconds of all stages together for a second of video; None where none is known."""
    factors = [work.factor for work in works if work.factor is not None]
    return sum(factors) if factors else None


def check_rate(sources: Sequence[FrameSource]) -> None:
    """Raise BadInput for videos of different frame rates."""
    rates = sorted(source.fps for source in sources)
    if not is_same_rate(rates[0], rates[-1]):
        raise BadInput(
            f"The videos have {rates[0]:g} and {rates[-1]:g} frames per second; connect videos of "
            "the same rate."
        )


def _is_from_file(source: FrameSource) -> bool:
    """Whether the frames come from a file, not from a rollout."""
    while isinstance(source, DerivedFrames):
        source = source.source
    return not isinstance(source, HostFrames)
