"""A score's weight means the same for every solver: what is left of it depends on the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.model import dit
from longtake.model.dit import Prediction
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import Guidance, WeightedScore
from longtake.samplers.loop import generate
from longtake.samplers.schedule.levels import few_step_ladder, flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.samplers.solvers.multistep import DPMSolverPP2M, UniPC2
from longtake.samplers.solvers.single_step import DDIM, Euler, ReNoise, Solver
from longtake.tests.support.tiny_model import TINY, randn, random_dit, settings

SOLVERS: dict[str, Solver] = {
    "euler": Euler(), "re-noise": ReNoise(), "unipc 2": UniPC2(), "dpm++ 2m": DPMSolverPP2M(),
    "ddim": DDIM(), "ddim, ancestral": DDIM(eta=1.0),
}  # fmt: skip
LADDERS = {
    "distilled": few_step_ladder((1000.0, 750.0, 500.0, 250.0), 5.0),
    "many": flow_ladder(8, 3.0),
}
SHAPE, WEIGHT = (3, 4, 4, 6), 2.0
SLOPE = 0.1 * randn(*SHAPE)
TARGET, FIELD = randn(*SHAPE, seed=1), randn(*SHAPE, seed=2)


@dataclass(frozen=True, eq=False)
class Linear:
    """A score whose gradient is known: `slope`."""

    slope: Tensor

    def __call__(self, latents: Tensor, before: Tensor, first: int) -> Tensor:
        return (self.slope * latents).sum()


def displacement(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[Tensor, Tensor], Tensor], *,
    strength: float = 1.0, limit: float = 0.5, **changes: Any,
) -> Tensor:  # fmt: skip
    """How far a score of slope `SLOPE` moves the latents of one chunk, if the model's velocity for
    latents x at levels s is `answer(x, s)`.
    """

    def predict(tree: Any, x: Tensor, t: Tensor, *_: Any, **__: Any) -> Prediction:
        kv = torch.zeros(len(x), x.shape[1] * 6, TINY.num_heads, TINY.dim // TINY.num_heads)
        return Prediction(answer(x, (t / 1000)[..., None, None, None].to(x)), ((kv, kv),) * 2)

    monkeypatch.setattr(dit, "predict", predict)
    model = local_denoiser(random_dit(), TINY)
    made = []
    for weight in (0.0, WEIGHT):
        guidance = Guidance(
            weighted_scores=(WeightedScore(Linear(SLOPE), weight, limit),)
        ).scale_by(strength)
        chunks = generate(settings(guidance=guidance, length=3, **changes), model)
        made.append(torch.cat([chunk.latents for chunk in chunks]))
    return made[1] - made[0]


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("name", SOLVERS)
def test_where_the_velocity_stays_the_latents_move_by_weight_times_the_gradient(
    monkeypatch: pytest.MonkeyPatch, name: str, ladder: str
) -> None:
    moved = displacement(
        monkeypatch, lambda x, s: FIELD.expand_as(x),
        solver=SOLVERS[name], schedule=causal_chunks(LADDERS[ladder], 3),
    )  # fmt: skip
    torch.testing.assert_close(moved, WEIGHT * SLOPE, rtol=0, atol=1e-5)


@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("name", SOLVERS)
def test_of_a_model_sure_of_its_estimate_the_last_level_is_left(
    monkeypatch: pytest.MonkeyPatch, name: str, ladder: str
) -> None:
    levels = LADDERS[ladder]
    moved = displacement(
        monkeypatch, lambda x, s: (x - TARGET) / s.clamp(min=1e-3),
        solver=SOLVERS[name], schedule=causal_chunks(levels, 3),
    )  # fmt: skip
    torch.testing.assert_close(moved, levels[-2] * WEIGHT * SLOPE, rtol=0, atol=1e-5)


@pytest.mark.parametrize("strength", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("name", ["euler", "re-noise"])
def test_the_limit_is_the_most_at_any_strength(
    monkeypatch: pytest.MonkeyPatch, name: str, strength: float
) -> None:
    """The strength of a prompt's line, of a live edit or of a step is on the weight, not on it."""
    limit = 0.1
    moved = displacement(
        monkeypatch, lambda x, s: FIELD.expand_as(x),
        strength=strength, limit=limit, solver=SOLVERS[name],
        schedule=causal_chunks(LADDERS["distilled"], 3),
    )  # fmt: skip
    asked = strength * WEIGHT * SLOPE
    size = asked.square().mean((1, 2, 3), keepdim=True).sqrt()
    assert (size > limit).all() == (strength >= 1)
    torch.testing.assert_close(moved, asked * (limit / size).clamp(max=1), rtol=0, atol=1e-5)
