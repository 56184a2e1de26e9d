"""Frames that a further model makes of others, with what they take beside their generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from ...samplers.planning.cost import cost
from ...stream.metrics import Report
from ...stream.preview.messages import Plan, TakeStats
from ...stream.work_meter import WorkMeter
from ..frames.decoded import HostFrames
from ..frames.source import DerivedFrames, FrameSource, stage_works
from ..planning.estimate import Estimate
from ..runtime.claim import Claim
from ..runtime.session import session


@dataclass(frozen=True, slots=True)
class StagePlan:
    """The plan of all up to a stage, and the generator's claims if all of it fits at once.

    `estimate` is None where the frames exist already.
    """

    plan: Plan
    estimate: Estimate | None
    shared_claim: Claim | None


class StageFrames(DerivedFrames):
    """The frames of one stage. `stage_plan` counts the memory of all that makes them.

    `stage_name` is a word for the stage, and `work_key` tells all that its time depends on.
    """

    stage_plan: StagePlan
    stage_name: str
    work_key: str

    @property
    def plan(self) -> Plan:
        """The plan of the source and of this stage."""
        return replace(self.stage_plan.plan, chunks=self.chunk_count)

    @cached_property
    def _generator_key(self) -> str:
        """What the time of the generator depends on; empty where frames exist already."""
        generator = generator_of(self)
        return "" if generator is None else _key(generator)

    @cached_property
    def work(self) -> WorkMeter:
        """The time that this stage works."""
        return WorkMeter(self.fps)

    @property
    def stage_works(self) -> tuple[WorkMeter, ...]:
        """The times of all stages up to this one."""
        return (*stage_works(self.source), self.work)

    def begin_work(self) -> None:
        """The stage works from now on."""
        self.work.begin()

    def end_work(self, frames: int) -> None:
        """The next `frames` pictures are made; remember how long such work takes."""
        self.work.end(frames)
        session.work_factors.note(self.work_key, self.work.factor)
        generator = generator_of(self)
        if generator is not None and generator.work is not None:
            session.work_factors.note(self._generator_key, generator.work.factor)

    @property
    def time_text(self) -> str:
        """A sentence on the time of generator and stage, as this session measured it last."""
        own = session.work_factors.of(self.work_key)
        before = session.work_factors.of(self._generator_key)
        if own is None or (self._generator_key and before is None):
            return "How long this takes is measured while it runs."
        first = "" if before is None else f"{before:.2f} s of the generator and "
        return f"Measured here: a second of video takes {first}{own:.2f} s of {self.stage_name}."

    def stats(self) -> TakeStats:
        """The source's measurements, with the time of this stage and of those before."""
        stats = self.source.stats()
        return replace(stats, stage_factor=_sum(stats.stage_factor, self.work.factor))

    def report(self, output_files: list[str]) -> Report:
        """The source's report, with the size of these frames and the time of all stages."""
        report = super().report(output_files)
        return replace(report, stage_factor=_sum(report.stage_factor, self.work.factor))


def generator_of(source: FrameSource) -> HostFrames | None:
    """The frames of a rollout that these are made of."""
    while isinstance(source, DerivedFrames):
        source = source.source
    return source if isinstance(source, HostFrames) else None


def _key(frames: HostFrames) -> str:
    """What the time of a generator depends on: model, size, and its work for a chunk."""
    rollout, model = frames.rollout, frames.rollout.footprint.model
    work = cost(rollout.settings, model.config, model.dtype, model.histories)
    size = rollout.settings.rows, rollout.settings.columns
    saving = rollout.settings.feature_caching
    return f"{rollout.spec.chain.models.identity} {model.device} {size} {work} {saving}"


def _sum(before: float | None, own: float | None) -> float | None:
    return own if before is None or own is None else before + own
