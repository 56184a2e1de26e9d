"""FRAMES that combine several FRAMES."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...errors import BadInput
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.joined import JoinedStream, JoinStart, JoinSteps, NextChunk
from ...stream.metrics import Report
from ...stream.preview.joint_controls import JointControls
from ...stream.preview.messages import TakeStats
from ...stream.rollout.live.controls import Controls
from ...stream.video.frame_rate import is_same_rate
from ...stream.work_meter import WorkMeter
from .decoded import HostFrames
from .source import DerivedFrames, FrameSource, stage_works

Uses = tuple[int, ...]
"""How many chunks of each source are read for a piece and those before it."""


class JoinedFrames(DerivedFrames):
    """Frames of several sources as one stream, whose chunks are pieces that `join` makes.

    Plan and measurements are those of the first generated source, with the time of all stages. The
    controls are those of all that are generated. `identity` tells what the pieces are beside the
    frames of the sources. Unless it `reads_at_once`, a source is subscribed to at its first use.
    """

    identity: str
    reads_at_once = True

    def __init__(
        self,
        sources: Sequence[FrameSource],
        join: Callable[[], JoinSteps[FrameChunk, FrameChunk]],
        size: tuple[int, int],
        total: int | None,
        pieces: int | None = None,
    ) -> None:
        streams = [source.chunks for source in sources]
        chunks = JoinedStream(streams, self._start, length=pieces, at_once=self.reads_at_once)
        generated = [source for source in sources if not _is_from_file(source)]
        super().__init__(generated[0] if generated else sources[0], chunks)
        self._join, self._unplanned = join, dict[int, Uses]()
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

    def content_key(self, index: int) -> str | None:
        """The address of all chunks that piece `index` is made of; each tells those before it."""
        uses = self._uses(index)
        return None if uses is None else self._key(index, uses)

    def _key(self, index: int, uses: Uses) -> str | None:
        keys = [
            source.content_key(count - 1) if count else ""
            for source, count in zip(self.sources, uses, strict=True)
        ]
        if None in keys:
            return None
        return hashlib.sha256(f"{self.identity} {index} {keys}".encode()).hexdigest()

    def hold_edits(self, first_chunk: int) -> None:
        """Let live edits spare all chunks that pieces before `first_chunk` are made of."""
        uses = self._uses(first_chunk - 1) if first_chunk else None
        for source, count in zip(self.sources, uses or (), strict=bool(uses)):
            source.hold_edits(count)

    def planned_uses(self, index: int) -> Uses | None:
        """What piece `index` needs if every source has its planned length; None where unknown."""
        raise NotImplementedError

    def planned_piece(self, frame: int) -> int | None:
        """The piece with picture number `frame`, which there is, if every source has its length."""
        raise NotImplementedError

    def _uses(self, index: int) -> Uses | None:
        """What piece `index` needs: as this run has made it, or else as planned."""
        return self._unplanned.get(index) or self.planned_uses(index)

    def _start(self, first: int) -> JoinStart[FrameChunk, FrameChunk]:
        outputs_have = [self.content_key(index) for index in range(first)]
        return JoinStart(self._steps(outputs_have), unread=first)

    def _steps(self, outputs_have: Sequence[str | None]) -> JoinSteps[FrameChunk, FrameChunk]:
        """The steps of `join`. Notes what pieces are made of where it is not as planned.

        Outputs have the first pieces from an earlier run. Where one of these becomes another, since
        a source was stopped before, the video ends with what they have.
        """
        steps, counts, index = self._join(), [0] * len(self.sources), 0
        answer: FrameChunk | None = None
        while (step := _next_step(steps, answer)) is not None:
            if isinstance(step, FrameChunk):
                uses = tuple(counts)
                if uses != self._uses(index):
                    self._unplanned[index] = uses
                if outputs_have[index : index + 1] not in ([], [self._key(index, uses)]):
                    return
                index += 1
            answer = yield step
            if isinstance(step, NextChunk):
                counts[step.source] += answer is not None

    @property
    def plan_only(self) -> bool:
        """Whether any source is a dry run."""
        return any(source.plan_only for source in self.sources)

    def get_models(self) -> list[Any]:
        """Return the models that the host keeps loaded while the prompt runs."""
        models = [model for source in self.sources for model in source.get_models()]
        return [model for i, model in enumerate(models) if model not in models[:i]]


def planned_chunk(source: FrameSource, frame: int) -> int | None:
    """The chunk with picture number `frame` if nothing stops the source; None where unknown."""
    if isinstance(source, JoinedFrames):
        return source.planned_piece(frame)
    return source.chunk_of(frame)


def _next_step(
    steps: JoinSteps[FrameChunk, FrameChunk], answer: FrameChunk | None
) -> NextChunk | FrameChunk | None:
    """Send an answer to the steps; None at their end."""
    try:
        return steps.send(answer)
    except StopIteration:
        return None


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
