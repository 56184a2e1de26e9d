"""Score guidance: gradients of wishes, taken where the host forbids them, and what they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import BadInput, NotFinite
from longtake.model.config import DiTConfig
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import Guidance, GuidanceTiming, Score, WeightedScore
from longtake.samplers.guidance.score import gradient
from longtake.samplers.guidance.scores import Motion, Palette, Pictures, Region
from longtake.samplers.loop import generate
from longtake.samplers.solvers.noise_process import VariancePreserving
from longtake.samplers.solvers.single_step import DDIM, Euler, ReNoise, Solver
from longtake.stream.journal.journal import root_key
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import (
    TINY,
    embedding,
    randn,
    random_dit,
    randomise,
    settings,
)

CPU = torch.device("cpu")
LATENTS = (3, 16, 4, 6)
NOTHING = torch.empty(0, *LATENTS[1:])


def vae(seed: int = 3) -> TinyVAE:
    """A tiny random VAE."""
    made = TinyVAE(TinyVAEConfig((4, 4, 4), (4, 4, 4)))
    randomise(made, seed)
    return made


@dataclass(frozen=True, eq=False)
class Linear:
    """A score whose gradient is known: `slope`."""

    slope: Tensor

    def __call__(self, latents: Tensor, before: Tensor, first: int) -> Tensor:
        return (self.slope[: len(latents)] * latents).sum()


def scores() -> dict[str, Score]:
    """The shipped ones."""
    pictures = Pictures(vae(), CPU)
    return {
        "palette": Palette(((0.1, 0.2, 0.3), (0.9, 0.8, 0.1)), pictures),
        "region": Region(randn(3, 20, 30).sigmoid(), (0.25, 0.0, 0.5, 0.75), pictures),
        "motion": Motion(5.0),
    }


@pytest.mark.parametrize("name", scores())
def test_a_gradient_is_the_scores_slope(name: str) -> None:
    score, clean, way = scores()[name], randn(*LATENTS), 1e-3 * randn(*LATENTS, seed=1)
    before = randn(1, *LATENTS[1:], seed=2)
    ours = (gradient(score, clean, before, 0) * way).sum()
    up, down = score(clean + way, before, 0), score(clean - way, before, 0)
    assert ours.item() == pytest.approx((up - down).item() / 2, rel=0.05)


@pytest.mark.parametrize("name", scores())
def test_gradients_work_in_inference_mode_on_weights_made_there(name: str) -> None:
    expected = gradient(scores()[name], randn(*LATENTS), NOTHING, 0)
    with torch.inference_mode():
        made = scores()[name]  # the VAE and the reference picture are inference tensors
        ours = gradient(made, randn(*LATENTS), NOTHING.clone(), 0)
        assert torch.is_inference_mode_enabled()
    torch.testing.assert_close(ours, expected)


def test_without_a_copy_of_its_own_a_decoder_made_in_inference_mode_would_refuse() -> None:
    """What `Pictures` is for."""
    with torch.inference_mode():
        made = vae()
    latents = randn(1, *LATENTS).requires_grad_()
    with pytest.raises(RuntimeError, match="[Ii]nference tensor"):
        made.decode_groups(latents, made.start(made.decoder))


@pytest.mark.parametrize("name", scores())
def test_a_small_step_along_the_gradient_makes_the_score_better(name: str) -> None:
    score, clean = scores()[name], randn(*LATENTS)
    better = clean + 1e-3 * gradient(score, clean, NOTHING, 0)
    assert score(better, NOTHING, 0) > score(clean, NOTHING, 0)


def test_motion_does_nothing_where_there_is_enough_and_counts_from_the_finished_frame() -> None:
    still, moving = torch.ones(2, *LATENTS[1:]), randn(*LATENTS)
    assert not gradient(Motion(0.5), moving, NOTHING, 0).any()
    assert Motion(0.5)(still[1:], NOTHING, 0) == 0  # one frame alone can not be said to stand still
    assert Motion(0.5)(still[1:], still[:1], 3) < 0
    assert Motion(0.5)(still[1:], still[:1] + 1, 3) == 0
    before = torch.cat([still[:1] + 1, still[:1]])  # it moved earlier, and stands still now
    assert Motion(0.5)(still[1:], before, 3) == Motion(0.5)(still[1:], still[:1], 3)


def test_a_region_leaves_what_is_outside_it() -> None:
    score = scores()["region"]
    frames = torch.zeros(12, 3, 32, 48)
    changed = frames.clone()
    changed[..., 24:, :] = changed[..., :12] = changed[..., 36:] = 5.0
    fits = [replace(score, pictures=lambda *_, f=f: f)(randn(*LATENTS), NOTHING, 0)  # type: ignore[type-var,misc]
            for f in (frames, changed)]  # fmt: skip
    assert fits[0] == fits[1] < 0


def test_a_region_counts_its_own_latent_pixels_and_sees_a_reference_in_the_size_of_frames() -> None:
    """Stripes of one pixel in three, at three times the size, are a third of white."""
    stripes = (torch.arange(144) % 3 == 1).float().expand(3, 96, 144)
    target = replace(scores()["region"], picture=stripes)  # type: ignore[type-var]
    grey, off = (
        replace(target, pictures=lambda *_, v=value: torch.full((12, 3, 32, 48), v))  # type: ignore[misc]
        for value in (1 / 3, 1 / 3 + 0.1)
    )
    latents, colours = randn(*LATENTS), 3
    assert abs(float(grey(latents, NOTHING, 0))) < 1e-6  # type: ignore[operator]
    cells = LATENTS[0] * LATENTS[2] * LATENTS[3] * 0.5 * 0.75
    expected = -0.5 * colours * (0.1 / 0.2) ** 2 * cells
    assert float(off(latents, NOTHING, 0)) == pytest.approx(expected, rel=1e-4)  # type: ignore[operator]


def test_weight_one_means_the_same_for_small_and_large_pictures() -> None:
    small = randn(2, 16, 4, 4)
    ours = [
        gradient(Motion(5.0), x, torch.empty(0, *x.shape[1:]), 0)[..., :4, :4]
        for x in (small, small.repeat(1, 1, 2, 2))
    ]
    torch.testing.assert_close(*ours)


def rollout(guidance: Guidance, **changes: Any) -> Tensor:
    """The latents of a rollout of a random model with the VAE's 16 channels."""
    config = DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=1, text_dim=TINY.text_dim)
    model = local_denoiser(random_dit(config), config)
    chunks = generate(settings(guidance=guidance, **changes), model)
    return torch.cat([chunk.latents for chunk in chunks])


def test_the_pull_is_bounded_for_each_latent_frame() -> None:
    slope = torch.cat([0.01 * randn(1, 16, 4, 6), 100 * randn(2, 16, 4, 6)])
    pull = WeightedScore(Linear(slope), 3.0, limit=0.5).shift(randn(*LATENTS), NOTHING, 0)
    torch.testing.assert_close(pull[0], 3 * slope[0])
    torch.testing.assert_close(pull[1:].square().mean((1, 2, 3)).sqrt(), torch.tensor([0.5, 0.5]))


def test_scores_see_clean_estimates_that_no_gradient_of_the_model_reaches() -> None:
    seen: list[tuple[bool, int, int]] = []

    @dataclass(frozen=True, eq=False)
    class Watching:
        def __call__(self, latents: Tensor, before: Tensor, first: int) -> Tensor:
            seen.append((latents.is_leaf, len(before), first))
            return latents.sum()

    with torch.inference_mode():
        rollout(Guidance(weighted_scores=(WeightedScore(Watching()),)))
    assert seen == [(True, 0, 0)] * 2 + [(True, 3, 3)] * 2 + [(True, 6, 6)] * 2


def test_scores_act_when_guidance_does() -> None:
    pulls = (WeightedScore(scores()["palette"]),)
    never = Guidance(weighted_scores=pulls, timing=GuidanceTiming(interval=(0.0, 0.0)))
    assert torch.equal(rollout(never), rollout(Guidance()))
    assert torch.equal(rollout(Guidance(weighted_scores=pulls).scale_by(0.0)), rollout(Guidance()))
    assert not torch.equal(rollout(Guidance(weighted_scores=pulls)), rollout(Guidance()))


@pytest.mark.each_value
@pytest.mark.parametrize("solver", [Euler(), ReNoise()], ids=["euler", "re-noise"])
@pytest.mark.parametrize("name", scores())
def test_a_guided_rollout_fits_its_wish_better(name: str, solver: Solver) -> None:
    score = scores()[name]
    pulled = rollout(Guidance(weighted_scores=(WeightedScore(score),)), solver=solver)
    assert score(pulled, NOTHING, 0) > score(rollout(Guidance(), solver=solver), NOTHING, 0)


def test_the_wish_is_part_of_the_chunks_keys() -> None:
    def key(score: Score, weight: float = 1.0) -> str:
        return root_key({"guidance": Guidance(weighted_scores=(WeightedScore(score, weight),))})

    palette = scores()["palette"]
    assert key(palette) == key(scores()["palette"])
    others = [
        key(replace(palette, colours=((0.0, 0.0, 0.0),))), key(palette, 2.0),  # type: ignore[type-var]
        key(replace(palette, pictures=Pictures(vae(4), CPU))), key(Motion(1.0)),  # type: ignore[type-var]
        key(Region(embedding(1)[None].expand(3, -1, -1), (0, 0, 1, 1), Pictures(vae(), CPU))),
    ]  # fmt: skip
    assert len({key(palette), *others}) == 6


def test_a_gradient_that_is_not_finite_is_named() -> None:
    with pytest.raises(NotFinite, match="The score Linear gave a gradient that is not finite at"):
        gradient(Linear(torch.full(LATENTS, float("nan"))), randn(*LATENTS), NOTHING, 6)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: WeightedScore(Motion(1.0), limit=0.0), lambda: Motion(0.0),
        lambda: Palette((), Pictures(vae(), CPU)),
        lambda: Region(torch.zeros(3, 4, 4), (0.5, 0, 0.6, 1), Pictures(vae(), CPU)),
        lambda: settings(guidance=Guidance(weighted_scores=(WeightedScore(Motion(1.0)),)),
                         solver=DDIM(VariancePreserving(), "v")),
    ],
)  # fmt: skip
def test_scores_that_cannot_work_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(BadInput):
        wrong()


def test_the_node_adds_each_score_and_the_report_names_it(bench: Bench) -> None:
    *_, vae_object = bench.run("LongtakeLoadDemoModel")
    inputs = {"vae": vae_object, "image": torch.rand(1, 8, 8, 3), "weight": 2.0}
    guidance = bench.run("LongtakeHistoryGuidance", preset="text only")[0]
    for score in ("palette", "region", "motion"):
        [guidance] = bench.run("LongtakeScoreGuidance", guidance=guidance, score=score, **inputs)
    kinds = [type(pull.score) for pull in guidance.scores]
    assert kinds == [Palette, Region, Motion]
    assert guidance.scores[0].score.colours[1] == pytest.approx(
        (0xE6 / 255, 0x39 / 255, 0x46 / 255)
    )
    frames = bench.frames(guidance=guidance)
    assert all(chunk.frames.isfinite().all() for chunk in frames.chunks)
    report = frames.report([]).versions["guidance"]
    assert report.endswith("2 x palette score; 2 x region score; 2 x motion score")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"colours": "#12345g"}, "'#12345g' is not a colour"), ({"colours": ""}, "one colour"),
        ({"score": "region", "region": "0 0 1"}, "region is '0 0 1'"),
        ({"score": "region", "image": None}, "needs an image"), ({"vae": None}, "needs a VAE"),
        ({"vae": "a file"}, "need a tiny VAE, but this is a text"),
    ],
)  # fmt: skip
def test_wishes_that_cannot_be_read_are_refused(
    bench: Bench, inputs: dict[str, Any], message: str
) -> None:
    *_, vae_object = bench.run("LongtakeLoadDemoModel")
    [guidance], image = bench.run("LongtakeHistoryGuidance"), torch.rand(1, 8, 8, 3)
    given = {"vae": vae_object, "image": image, "guidance": guidance, **inputs}
    with pytest.raises(BadInput, match=message):
        bench.run("LongtakeScoreGuidance", **given)


def test_the_context_noise_node_replaces_the_schedules_number(bench: Bench) -> None:
    [schedule] = bench.run("LongtakeSchedule", context_noise=0.05)
    assert schedule.context_noise.level == 0.05
    [noisy] = bench.run("LongtakeContextNoise", schedule=schedule, level=0.2, ramp_frames=8)
    assert (noisy.context_noise.at(2), noisy.context_noise.at(9)) == (0.05, 0.2)
    with pytest.raises(BadInput, match="level is 1; set a number from 0 to 0.9"):
        bench.run("LongtakeContextNoise", schedule=schedule, level=1.0)


def test_the_layout_of_a_vae_in_memory_changes_no_bit() -> None:
    """A saved shot's decoder comes back in another one."""
    plain, other = (
        Palette(((0.1, 0.2, 0.3),), Pictures(made, CPU))
        for made in (vae(), vae().to(memory_format=torch.channels_last))
    )
    latents = randn(*LATENTS, seed=4)
    ours = gradient(plain, latents, NOTHING, 0)
    assert torch.equal(ours, gradient(other, latents, NOTHING, 0)) and ours.any()
