"""The memory of a stage behind a generator, in one plan with it and with the stages before."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...stream.preview.messages import Plan
from ...units import byte_size
from .. import host
from ..frames.decoded import HostFrames
from ..frames.source import DerivedFrames, FrameSource
from ..planning.estimate import Estimate, Stage, describe_weights
from .stage_frames import StageFrames, StagePlan, generator_of


def plan_stage(source: FrameSource, stage: Stage, device: torch.device) -> StagePlan:
    """Plan `stage`, which works on `device`, beside all that makes the frames of `source`."""
    generator = generator_of(source)
    before = _estimate(source)
    if generator is None or before is None:
        return StagePlan(_alone(source.plan, stage, device), None, None)
    beside = before.beside_bytes + stage.own_bytes + stage.weights.counted_bytes
    memory = generator.rollout.footprint.memory_beside(beside, before.free_bytes)
    both = before.with_stage(memory, stage)
    return StagePlan(both.plan, both, None if both.is_tight else generator.rollout.claim)


def _estimate(source: FrameSource) -> Estimate | None:
    """What takes memory before a further stage: the generator, and stages after it."""
    while isinstance(source, DerivedFrames):
        if isinstance(source, StageFrames):
            return source.stage_plan.estimate
        source = source.source
    return source.estimate if isinstance(source, HostFrames) else None


def _alone(plan: Plan, stage: Stage, device: torch.device) -> Plan:
    """The plan of a stage over frames that exist already."""
    free = host.usable_memory_bytes(device)
    if stage.needed_bytes > free:
        text = (
            f"The {stage.name} needs {byte_size(stage.needed_bytes)} of memory, but only "
            f"{byte_size(free)} is available; {stage.remedy}."
        )
        return replace(plan, fits=False, free_bytes=free, text=text)
    weights = describe_weights(stage.weights, stage.own_bytes, free)
    text = f"{plan.text}. {stage.name.capitalize()} {byte_size(stage.own_bytes)}, {weights}."
    return replace(plan, free_bytes=free, text=text)
