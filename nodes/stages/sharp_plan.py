"""The memory of a super-resolution: the whole picture, or the largest tiles that fit."""

from __future__ import annotations

from dataclasses import dataclass

from ...model.flashvsr.canvas import Canvas
from ...model.flashvsr.memory import PassMemory, pass_memory
from ...model.flashvsr.passes import PassRule
from ...model.flashvsr.tiles import TILE_SIDES, Tiling
from ..frames.source import FrameSource
from ..models.flashvsr.objects import FlashVSR
from ..planning.estimate import Stage
from .stage_frames import StagePlan
from .stage_plan import plan_stage


@dataclass(frozen=True, slots=True)
class SharpPlan:
    """The tiles, what a run takes with them, and the plan of all."""

    stage_plan: StagePlan
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
        if plan.stage_plan.plan.fits:
            break
    return plan


def _plan(source: FrameSource, flashvsr: FlashVSR, tiling: Tiling, rule: PassRule) -> SharpPlan:
    memory = pass_memory(flashvsr.sizes, tiling, flashvsr.device, rule)
    stage = Stage(
        "super-resolution", memory.state_bytes, memory.working_bytes, flashvsr.weights,
        takes_turns=flashvsr.device.type != "cpu", remedy="lower scale",
    )  # fmt: skip
    return SharpPlan(plan_stage(source, stage, flashvsr.device), tiling, memory)
