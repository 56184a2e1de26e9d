"""Models that are no flows: whole rollouts of epsilon and v predictions against the reference, its
noise schedule written from its own formulas.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import FullHistory
from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.dit import predict, project_text
from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames
from longtake.samplers.guidance import cfg, extend, fractional
from longtake.samplers.loop import generate
from longtake.samplers.noise import addressed_noise
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import StaggeredSchedule, causal_chunks, rolling
from longtake.samplers.solvers.noise_process import Betas, VariancePreserving
from longtake.samplers.solvers.single_step import DDIM, Prediction
from longtake.tests.support.node_bench import CONFIG, Bench
from longtake.tests.support.samplers.brute_force import Guided, Step, Way, rollout
from longtake.tests.support.samplers.guidance_cases import NEGATIVE, both, masked, stable, whole
from longtake.tests.support.samplers.guided_rollouts import DIT, MODEL, PROMPTS
from longtake.tests.support.tiny_model import randn, random_dit, settings

LENGTH, LADDER = 7, flow_ladder(3, 2.0)


def kept(betas: Betas) -> Tensor:
    """abar at levels 0, 1/1000, ... 1: the signal's share of the variance, of its own betas."""
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    match betas:
        case "linear":  # DDPM
            beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        case "scaled linear":  # latent diffusion
            beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        case "cosine":  # arXiv 2102.09672, eq. 17
            f = ((t + 0.008) / 1.008 * torch.pi / 2).cos() ** 2
            beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
        case "sigmoid":  # arXiv 2212.11972 from -3 to 3, as Diffusion Forcing writes it
            f = ((6 * t - 3).sigmoid() - 1 / (1 + math.exp(-3))).neg()
            beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1), (1 - beta).cumprod(0)])


def ddim(betas: Betas, prediction: Prediction, eta: float) -> Step:
    """Diffusion Forcing's `ddim_sample_step`: eta 0 is DDIM, 1 ancestral."""
    abar = kept(betas)

    def step(x: Tensor, model: Tensor, now: float, after: float, fresh: Tensor) -> Tensor:
        a, an = (abar[round(1000 * level)] for level in (now, after))
        x, model = x.double(), model.double()
        if prediction == "epsilon":
            clean, eps = (x - (1 - a).sqrt() * model) / a.sqrt(), model
        else:
            clean = a.sqrt() * x - (1 - a).sqrt() * model
            eps = a.sqrt() * model + (1 - a).sqrt() * x
        s = eta * ((1 - a / an) * (1 - an) / (1 - a)).sqrt()
        return (an.sqrt() * clean + (1 - an - s**2).sqrt() * eps + s * fresh).float()

    return step


def way(betas: Betas, step: Step, **other: Any) -> Way:
    """Level (k + 1) / 1000 is timestep k; clean is told as the first one."""
    abar = kept(betas)

    def mix(level: float) -> tuple[float, float]:
        share = float(abar[round(1000 * level)])
        return share**0.5, (1 - share) ** 0.5

    def told(level: float) -> float:
        return max(round(1000 * level) - 1, 0)

    return Way(LADDER, step=step, mix=mix, told=told, **other)


def ours(schedule: StaggeredSchedule, solver: DDIM, **changes: Any) -> Tensor:
    """The engine's rollout."""
    chosen = {"prompts": PROMPTS, "cache": FullHistory(), **changes}
    made = generate(settings(schedule, LENGTH, solver=solver, **chosen), MODEL)
    return torch.cat([chunk.latents for chunk in made])


def assert_same(made: Tensor, expected: Tensor) -> None:
    """Equal to 1e-5 of the largest value."""
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


KINDS: list[tuple[Betas, Prediction, float]] = [
    ("linear", "epsilon", 0.0), ("scaled linear", "epsilon", 1.0), ("linear", "v", 0.5),
    ("cosine", "v", 1.0), ("sigmoid", "v", 0.0), ("sigmoid", "v", 1.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "lag"), [(causal_chunks(LADDER, 3), math.inf), (rolling(LADDER, 3), 1)],
    ids=["causal chunks", "rolling"],
)  # fmt: skip
@pytest.mark.parametrize(("betas", "prediction", "eta"), KINDS)
def test_a_guided_rollout_of_a_diffusion_model_is_the_whole_sequence_each_time(
    betas: Betas, prediction: Prediction, eta: float, schedule: StaggeredSchedule, lag: float
) -> None:
    """Steps, the history's noise and what the model is told are all of the same process."""
    solver = DDIM(VariancePreserving(betas), prediction, eta)
    guidance = extend(cfg(2.0), fractional(1.5, 0.6))
    made = ours(schedule, solver, guidance=guidance, context_noise=ContextNoise(0.1))
    terms = both(whole(2.0), whole(-1.0, **NEGATIVE), whole(0.5, level=0.6), masked(-0.5))
    as_written = way(betas, ddim(betas, prediction, eta), lag=lag)
    assert_same(made, rollout(DIT, PROMPTS, as_written, Guided(stable(terms, 0.1)), LENGTH))


@pytest.mark.parametrize("level", [0.0, 0.5])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_known_frames_start_with_the_processes_own_noise(eta: float, level: float) -> None:
    given = {frame: randn(4, 4, 6, seed=frame) for frame in (2, 4, 6)}
    known = KnownFrames(tuple(KnownFrame(f, x, level) for f, x in given.items()))
    made = ours(
        causal_chunks(LADDER, 3), DDIM(VariancePreserving("sigmoid"), "v", eta), known_frames=known
    )
    as_written = way("sigmoid", ddim("sigmoid", "v", eta), given_level=level)
    expected = rollout(DIT, PROMPTS, as_written, Guided(whole(1.0, blind=True)), LENGTH, given)
    assert_same(made, expected)


def test_the_sigmoid_schedule_has_the_values_of_its_formula() -> None:
    """(s(3) - s(6t - 3)) / (s(3) - s(-3)) by hand, and in another form for all but the last."""
    levels = torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=torch.float64)
    signal, noise = VariancePreserving("sigmoid").coefficients(levels)
    expected = torch.tensor([1.0, 0.850854, 0.5, 0.149146], dtype=torch.float64)
    torch.testing.assert_close(signal**2, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(noise**2, 1 - expected, rtol=0, atol=1e-6)
    t = torch.arange(1000, dtype=torch.float64) / 1000
    signal, _ = VariancePreserving("sigmoid").coefficients(t)
    by_tanh = 0.5 - (3 * t - 1.5).tanh() / math.tanh(1.5) / 2
    torch.testing.assert_close(signal**2, by_tanh, rtol=1e-9, atol=0)


def test_a_v_model_asked_for_on_the_canvas_runs_on_its_own_noise_schedule(bench: Bench) -> None:
    """From Diffusion-Forcing Schedule through the sampler, one chunk by hand."""
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="0: a red ball")
    [schedule] = bench.run(
        "LongtakeSchedule", chunk_frames=3, steps=3, shift=2.0, first_steps=0, context_noise=0.0,
        solver="ancestral", predicts="v", betas="sigmoid",
    )  # fmt: skip
    shot = {"width": 32, "height": 32, "length": 9.0, "length_unit": "frames", "cfg": 1.0}
    [made] = bench.run("LongtakeSampler", model=model, prompts=prompts, schedule=schedule, **shot)
    s = made.settings
    assert (s.length, s.schedule.ladder) == (3, LADDER)
    shape, dit, step = (16, s.rows, s.columns), random_dit(CONFIG), ddim("sigmoid", "v", 1.0)
    x = torch.stack([addressed_noise(s.seed, f, 0, "start", shape) for f in range(3)])
    text = project_text(dit, s.prompts.at(0).values[None, None])
    attention = WholeSequence(rotation(range(3), s.rows // 2, s.columns // 2, CONFIG.head_dim))
    for number, (now, after) in enumerate(pairwise(LADDER), 1):
        t = torch.full((1, 3), round(1000 * now) - 1.0, dtype=torch.float64)
        v = predict(dit, x[None], t, text, attention).velocity[0]
        fresh = [addressed_noise(s.seed, f, number, "renoise", shape) for f in range(3)]
        x = step(x, v, now, after, torch.stack(fresh))
    assert_same(torch.cat([chunk.latents for chunk in made.chunks]), x)
