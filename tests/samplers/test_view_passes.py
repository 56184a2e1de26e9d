"""What a pass is told of the steps of its frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import WindowSink
from longtake.model.anyflow import flow_map
from longtake.samplers import evaluator
from longtake.samplers.conditioning.known_frames import from_latents
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.solvers.multistep import UniPC2
from longtake.samplers.solvers.single_step import Euler, ReNoise, Solver
from longtake.tests.support.tiny_model import TINY, randn, random_dit, settings

FLOW_MAP = replace(TINY, flow_map=True)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("solver", "target"), [(Euler(), 500.0), (ReNoise(), 0.0), (UniPC2(), 1000.0)], ids=str
)
def test_a_frame_that_rests_is_told_its_own_level(
    monkeypatch: pytest.MonkeyPatch, solver: Solver, target: float
) -> None:
    """Frame 1 is redrawn from level 0.3 on, so the first step leaves it there."""
    told = list[list[float]]()

    def record(tree: Any, targets: torch.Tensor, *place: Any) -> Any:
        told.append(targets[0].tolist())
        return flow_map.target_hooks(tree, targets, *place)

    monkeypatch.setattr(evaluator, "target_hooks", record)
    shot = settings(
        length=3, schedule=causal_chunks(flow_ladder(2, 1.0), 3), solver=solver,
        cache=WindowSink(3), known_frames=from_latents(randn(1, 4, 4, 6), 1, level=0.3),
    )  # fmt: skip
    next(generate(shot, local_denoiser(random_dit(FLOW_MAP), FLOW_MAP)))
    assert told[0] == pytest.approx([target, 300.0, target])
