"""Training of the second stage: pairs that belong together, a run that learns and resumes."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.model.refiner.file import load_refiner
from longtake.model.refiner.network import FACTOR, Refiner, RefinerConfig, shrink
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig, encode_all
from longtake.tests.support.tiny_model import randomise
from longtake.training.refiner import first_stage
from longtake.training.refiner import train as train_refiner
from longtake.training.refiner.first_stage import GeneratingStage, VAEStage, regenerated
from longtake.training.refiner.pairs import CropSize, PairMaker, Pairs
from longtake.training.refiner.train import RefinerTraining, excess_change, loss_of, train
from longtake.training.run import TrainingRun
from longtake.training.train_dit import CONFIG, build
from longtake.training.world.clips import driven_shot, random_shot
from longtake.training.world.dataset import Pool
from longtake.training.world.renderer import render
from longtake.training.world.scene import Shot, scene

TINY = RefinerTraining(
    steps=4, batch=2, clips=2, held_out=1, size=(16, 32), crop=CropSize(3, 16, 16),
    config=RefinerConfig(8, 4, 1), save_every=2,
)  # fmt: skip
SMALL_DIT = replace(CONFIG, dim=24, ffn_dim=32, num_heads=2, num_layers=1, text_dim=8)


@pytest.fixture(scope="module")
def vae() -> TinyVAE:
    network = TinyVAE(TinyVAEConfig((4, 4, 4), (4, 4, 4)))
    randomise(network, 1)
    return network


@pytest.fixture
def true_stage(monkeypatch: pytest.MonkeyPatch, vae: TinyVAE) -> None:
    """A first stage that shows frames as they are."""
    monkeypatch.setattr(
        train_refiner, "load_stage", lambda _: (vae, lambda shots, rng, frames: frames)
    )
    monkeypatch.setattr(first_stage, "encode_all", lambda _, frames: frames)
    monkeypatch.setattr(first_stage, "decode_all", lambda _, frames: frames)


def test_both_sizes_show_the_same_place(vae: TinyVAE) -> None:
    maker = PairMaker(lambda shots, rng, frames: frames, random.Random(1), (64, 96))
    pair = maker.make(1)
    small, large = pair.crops(torch.tensor([0]), random.Random(2), CropSize(4, 24, 40))
    assert small.shape == (1, 4, 3, 24, 40) and large.shape == (1, 4, 3, 96, 160)
    wrong = Pairs(pair.small, pair.large.roll(FACTOR, 4))
    _, shifted = wrong.crops(torch.tensor([0]), random.Random(2), CropSize(4, 24, 40))
    error, by_a_pixel = ((shrink(x) - small).abs().mean() for x in (large, shifted))
    assert error < 0.004 and by_a_pixel > 3 * error


def test_a_run_learns_and_resumes(true_stage: None, tmp_path: Path) -> None:
    train(tmp_path, tmp_path, replace(TINY, steps=2))
    first = load_file(tmp_path / "refiner.safetensors")
    train(tmp_path, tmp_path, TINY)
    assert torch.load(tmp_path / "refiner.pt", weights_only=True)["step"] == 4
    second = load_file(tmp_path / "refiner.safetensors")
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert load_refiner(tmp_path / "refiner.safetensors").config == TINY.config


def test_without_memory_each_frame_is_a_video_of_its_own(
    true_stage: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def loss(model: Refiner, small: Tensor, *rest: Tensor) -> Tensor:
        shapes.append(small.shape[:2])
        return loss_of(model, small, *rest)

    monkeypatch.setattr(train_refiner, "loss_of", loss)
    train(tmp_path, tmp_path, replace(TINY, frame_wise=True))
    assert set(shapes) == {(6, 1)}


def test_the_mean_of_the_weights_follows_them(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    run = TrainingRun(tmp_path / "x.pt", model, None)  # type: ignore[arg-type]
    for done, weight in enumerate((1.0, 2.0)):
        model.weight.data.fill_(weight)
        run.done = done
        run.average(0.5)
    assert run.averaged["weight"].item() == pytest.approx(1 + (1 - 2 / 11))
    run.done = 1000
    run.average(0.5)
    assert run.averaged["weight"].item() == pytest.approx((1 + 9 / 11 + 2) / 2)


def clips_of(vae: TinyVAE, shots: list[Shot]) -> Pool:
    stage = GeneratingStage(VAEStage(vae), build(SMALL_DIT))
    frames = render(scene(shots, 21), 16, 32)
    return first_stage.clips_of(stage, shots, random.Random(1), frames)


def test_a_transformer_that_knows_the_noise_gives_the_true_clip_back(
    vae: TinyVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = [random_shot(random.Random(2), 6)]
    clips, networks = clips_of(vae, shots), build(SMALL_DIT)
    seen = []

    def velocity(batch: first_stage.Batch) -> Tensor:
        copies, levels = batch.x[:, 6:], batch.levels[:, 6:, None, None, None]
        seen.append(float(levels.mean()))
        assert torch.equal(batch.x[:, :6], clips.latents) and not batch.levels[:, :6].any()
        return (copies - clips.latents) / levels

    monkeypatch.setattr(networks, "forward", velocity)
    given = regenerated(networks, clips, 0.4, random.Random(3))
    torch.testing.assert_close(given, clips.latents, rtol=0, atol=1e-5)
    assert seen == pytest.approx([0.4, 0.2])


def test_a_driven_clip_goes_through_the_vae_alone(
    vae: TinyVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_stage, "GENERATED_SHARE", 1.0)
    stage, rng = GeneratingStage(VAEStage(vae, 0.0), build(SMALL_DIT)), random.Random(4)
    driven, spoken = driven_shot(rng, 6), random_shot(rng, 6)
    frames = {id(shot): render(scene([shot], 21), 16, 32) for shot in (driven, spoken)}
    with torch.no_grad():
        alone = [stage.vae([shot], rng, frames[id(shot)]) for shot in (driven, spoken)]
        both = [stage([shot], rng, frames[id(shot)]) for shot in (driven, spoken)]
    assert torch.equal(both[0], alone[0]) and not torch.equal(both[1], alone[1])
    assert encode_all(vae, frames[id(driven)]).shape[1] == 6


def test_what_36_db_allow_costs_nothing_and_more_does() -> None:
    large = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    small = shrink(large)
    assert not excess_change(large, small).any()
    assert not excess_change(large + 10 ** (-36.1 / 20), small).any()
    beyond = torch.tensor([10 ** (-30 / 20), 0.0]).view(2, 1, 1, 1, 1)
    expected = [10 ** (-30 / 10) - 10 ** (-36 / 10), 0]
    assert excess_change(large + beyond, small).tolist() == pytest.approx(expected, rel=1e-3)


def test_the_loss_has_its_three_parts() -> None:
    network = Refiner(RefinerConfig(8, 4, 1))
    for parameter in network.layers[-2].parameters():
        parameter.data.zero_()
    flat, level = torch.full((1, 1, 3, 8, 8), 0.5), torch.zeros(1)
    large = torch.full((1, 1, 3, 32, 32), 0.6)
    assert loss_of(network, flat, large, level).item() == pytest.approx(0.1 + 15 * 0.01, rel=1e-4)
    darker = torch.full((1, 1, 3, 32, 32), 0.5)
    network.layers[-2].bias.data.fill_(-0.1)  # so it darkens everything by .1
    changed = 150 * (0.01 - 10 ** (-36 / 10))
    assert loss_of(network, flat, darker, level).item() == pytest.approx(0.25 + changed, rel=1e-4)
    assert loss_of(network, flat, darker, level + 0.05) < 0.5, "of noisy frames it costs nothing"
