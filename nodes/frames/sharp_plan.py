"""The memory of a super-resolution, in one plan with the generator of its frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...model.flashvsr.canvas import Canvas
from ...model.flashvsr.memory import PassMemory, pass_memory
from ...model.flashvsr.passes import PassRule
from ...model.flashvsr.tiles import TILE_SIDES, Tiling
from ...stream.preview.messages import Plan
from ...units import byte_size
from .. import host
from ..models.flashvsr import FlashVSR
from ..planning.estimate import Stage, describe_weights
from ..runtime.claim import Claim
from .decoded import HostFrames
from .source import DerivedFrames, FrameSource


@dataclass(frozen=True, slots=True)
class SharpPlan:
    """The tiles, what a run takes with them, and the generator's claims if both fit at once."""

    plan: Plan
    shared_claim: Claim | None
    tiling: Tiling
    memory: PassMemory


def plan_beside(
    source: FrameSource, flashvsr: FlashVSR, canvas: Canvas, tile_side: int, rule: PassRule
) -> SharpPlan:
    """Plan FlashVSR beside all that makes the frames of `source`.

    A `tile_side` of 0 takes the whole picture, or the largest tiles that fit.
    """
    choices = [tile_side] if tile_side else [0, *TILE_SIDES]
    for side in choices:
        tiling = Tiling(canvas, side)
        if side and not tile_side and len(tiling.tiles) == 1:
            continue  # planned already, as the whole picture
        plan = _plan(source, flashvsr, tiling, rule)
        if plan.plan.fits:
            break
    return plan


def _plan(source: FrameSource, flashvsr: FlashVSR, tiling: Tiling, rule: PassRule) -> SharpPlan:
    memory = pass_memory(flashvsr.sizes, tiling, flashvsr.device, rule)
    on_card = flashvsr.device.type != "cpu"
    stage = Stage(memory.state_bytes, memory.working_bytes, flashvsr.weights, on_card)
    generator = _generator(source)
    if generator is None:
        return SharpPlan(_alone(source.plan, stage, flashvsr), None, tiling, memory)
    estimate, rollout = generator.estimate, generator.rollout
    other = estimate.decoding_bytes or 0
    other += memory.state_bytes + memory.working_bytes
    other += estimate.weights.counted_bytes + stage.weights.counted_bytes
    beside = rollout.footprint.memory_beside(other, estimate.free_bytes)
    both = estimate.with_stage(beside, stage)
    shared = None if both.is_tight else rollout.claim
    return SharpPlan(both.plan, shared, tiling, memory)


def _generator(source: FrameSource) -> HostFrames | None:
    """The frames of a rollout that these are made of."""
    while isinstance(source, DerivedFrames):
        source = source.source
    return source if isinstance(source, HostFrames) else None


def _alone(plan: Plan, stage: Stage, flashvsr: FlashVSR) -> Plan:
    """The plan of frames that exist already."""
    free = host.usable_memory_bytes(flashvsr.device)
    stage_bytes = stage.state_bytes + stage.working_bytes
    if stage.needed_bytes > free:
        text = (
            f"The super-resolution needs {byte_size(stage.needed_bytes)} of memory, but only "
            f"{byte_size(free)} is available; lower scale."
        )
        return replace(plan, fits=False, free_bytes=free, text=text)
    weights = describe_weights(stage.weights, stage_bytes, free)
    text = f"{plan.text}. Super-resolution {byte_size(stage_bytes)}, {weights}."
    return replace(plan, free_bytes=free, text=text)
