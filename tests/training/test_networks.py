"""Tiny training runs of the VAE, its wider decoder, the DiT and the oracle."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from longtake.errors import BadInput
from longtake.model.camera.columns import column_turns
from longtake.model.checkpoint import load_dit, load_text_encoder, load_tiny_vae
from longtake.model.vae.tiny import Conv, TinyVAE, decode_all, encode_all
from longtake.tests.support.tiny_model import randn, randomise
from longtake.tests.support.training_runs import DIT, WIDTHS, save_tiny_vae, tiny_run
from longtake.training import refine_vae, train_dit, train_oracle, train_vae
from longtake.training.batches import Batch
from longtake.training.beginnings import GROWTH, TURNS_GROWTH, grow_columns, load_beginning
from longtake.training.evaluation import oracle
from longtake.training.served import ReturnTask
from longtake.training.train_vae import TrainedVAE, fold_norm, psnr
from longtake.training.world.picture_pool import PicturePool, PictureSpec, held_out_clips
from longtake.training.world.returns import ReturnSpec
from longtake.training.world.scene import ATTRIBUTE_SIZE

PICTURES = PictureSpec(clips=8, held_out=1, height=16, width=16)
COMMANDS = (
    "train_vae", "refine_vae", "train_dit", "train_recurrent", "train_oracle",
    "evaluation.calibrate_detectors", "evaluate",
)  # fmt: skip


@pytest.fixture
def vae_file(tmp_path: Path) -> Path:
    return save_tiny_vae(tmp_path)


def test_folding_the_norm_keeps_the_function() -> None:
    model = TrainedVAE(TinyVAE(WIDTHS))
    randomise(model, 1)
    assert isinstance(model.norm, torch.nn.BatchNorm3d)
    assert model.norm.running_mean is not None and model.norm.running_var is not None
    model.norm.running_mean.copy_(randn(16, seed=2))
    model.norm.running_var.copy_(randn(16, seed=3).square() + 0.1)
    frames = randn(1, 5, 3, 16, 8).sigmoid()
    with torch.no_grad():
        expected = model.eval().encode(frames)
        torch.testing.assert_close(
            encode_all(fold_norm(model), frames), expected, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("widths", [(4, 6, 8), (7, 10, 12)])
def test_a_widened_decoder_computes_the_same_function(widths: tuple[int, int, int]) -> None:
    vae = TinyVAE(WIDTHS)
    randomise(vae, 1)
    wide = refine_vae.widen_decoder(vae, widths)
    frames, latents = randn(1, 5, 3, 16, 8).sigmoid(), randn(1, 2, 16, 2, 1)
    with torch.no_grad():
        assert torch.equal(encode_all(vae, frames), encode_all(wide, frames))
        torch.testing.assert_close(decode_all(vae, latents), decode_all(wide, latents))
    first = wide.decoder[0]
    assert isinstance(first, Conv) and len(first.weight) == widths[2]


def test_psnr_of_a_known_error() -> None:
    assert psnr(torch.full((2, 2), 0.6), torch.full((2, 2), 0.5)) == pytest.approx(20, abs=1e-3)


def test_a_picture_pool_replaces_two_clips_every_second_draw() -> None:
    pool = PicturePool(PICTURES, random.Random(0))
    before = pool.pictures.clone()
    pool.draw(1, 3)
    assert torch.equal(pool.pictures, before)
    assert pool.draw(2, 3).shape == (3, 17, 3, 16, 16)
    same = [torch.equal(a, b) for a, b in zip(pool.pictures, before, strict=True)]
    assert same.count(False) == 2
    assert torch.equal(held_out_clips(PICTURES), held_out_clips(PICTURES))


def test_a_stopped_vae_run_resumes(tmp_path: Path) -> None:
    settings = train_vae.VAETraining(4, batch=1, pictures=PICTURES, widths=WIDTHS, save_every=2)
    train_vae.train(tmp_path, replace(settings, steps=2))
    stopped = torch.load(tmp_path / "vae.pt")
    train_vae.train(tmp_path, settings)
    ended = torch.load(tmp_path / "vae.pt")
    assert (stopped["step"], ended["step"]) == (2, 4)
    counts = [int(state["model"]["norm.num_batches_tracked"]) for state in (stopped, ended)]
    assert counts == [2, 4]  # the weights were restored, not made anew
    assert ended["optimizers"][1]["state"][0]["step"] == 4
    vae = load_tiny_vae(tmp_path / "vae.safetensors")
    assert encode_all(vae, randn(1, 1, 3, 16, 16)).isfinite().all()


def test_refining_trains_the_decoder_only(tmp_path: Path, vae_file: Path) -> None:
    settings = refine_vae.VAERefinement(1, batch=1, pictures=PICTURES, widths=(5, 6, 8))
    refine_vae.refine(vae_file, tmp_path / "out", settings)
    old = load_tiny_vae(vae_file).state_dict()
    new = load_tiny_vae(tmp_path / "out" / "vae_fp32.safetensors").state_dict()
    encoder = [key for key in old if key.startswith("encoder.")]
    assert all(torch.equal(old[key], new[key]) for key in encoder)
    assert not torch.equal(old["decoder.0.weight"], new["decoder.0.weight"])
    assert load_tiny_vae(tmp_path / "out" / "vae.safetensors").decoder_reach == 4


def test_a_stopped_dit_run_resumes_and_its_files_load(tmp_path: Path, vae_file: Path) -> None:
    train_dit.train(vae_file, tmp_path, tiny_run(1))
    train_dit.train(vae_file, tmp_path, tiny_run(2))
    state = torch.load(tmp_path / "dit.pt")
    assert state["step"] == 2
    assert sorted(state) == ["averaged", "model", "optimizers", "step"]
    dit = load_dit(tmp_path / "dit.safetensors")
    averaged = state["averaged"]["dit.patch_embedding.weight"]
    assert torch.equal(dit.patch_embedding.weight, averaged.half().float())
    assert (dit.num_heads, load_text_encoder(tmp_path / "text.safetensors").text_len) == (2, 24)


def test_a_run_on_one_task_draws_no_other(tmp_path: Path, vae_file: Path) -> None:
    settings = tiny_run(2)
    alone = {"memory": settings.tasks["memory"]}  # never drawn so early in a whole run
    train_dit.train(vae_file, tmp_path, replace(settings, tasks=alone, only="memory"))
    assert torch.load(tmp_path / "dit.pt")["step"] == 2


def test_residual_branches_and_the_output_of_a_fresh_dit_are_zero() -> None:
    networks = train_dit.build(DIT)
    weights = networks.dit.state_dict()
    zero = [key for key in weights if key.endswith(train_dit.ZERO_AT_START)]
    assert len(zero) == 4
    assert not any(weights[key].any() for key in zero)


def test_the_average_moves_towards_the_weights() -> None:
    networks = train_dit.build(DIT)
    averaged = {key: torch.zeros_like(value) for key, value in networks.state_dict().items()}
    train_dit.average(averaged, networks, 0.25)
    key = "text.words.weight"
    torch.testing.assert_close(averaged[key], 0.25 * networks.state_dict()[key])


def test_the_oracle_reads_every_attribute_of_every_frame(vae_file: Path) -> None:
    network = oracle.Oracle()
    found = oracle.read_attributes(network, randn(12, 3, 16, 24).sigmoid(), torch.tensor([0, 3]))
    assert {name: tuple(index.shape) for name, index in found.items()} == {
        name: (2,) for name in oracle.SLICES
    }


@pytest.mark.parametrize("seed", [0, 2])
def test_oracle_examples_have_steady_attributes(vae_file: Path, seed: int) -> None:
    frames, weights = train_oracle.examples(random.Random(seed), load_tiny_vae(vae_file), 1)
    assert frames.shape[1:3] == (9, 64) and weights.shape == (len(frames), ATTRIBUTE_SIZE)
    assert ((weights < 0.01) | (weights > 0.99)).all()


def test_an_oracle_survives_its_file(tmp_path: Path) -> None:
    network = oracle.Oracle().eval()
    train_oracle.save_half(network.state_dict(), tmp_path / "oracle.safetensors")
    frames = randn(1, 9, 16, 16).sigmoid()
    loaded = oracle.load_oracle(tmp_path / "oracle.safetensors")
    torch.testing.assert_close(loaded(frames), network(frames), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_out_steps_and_seed(name: str) -> None:
    command = importlib.import_module(f"longtake.training.{name}").main
    page = CliRunner().invoke(command, ["--help"]).output
    assert all(option in page for option in ("--out", "--steps", "--seed"))


def test_a_wrong_file_is_one_sentence(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.safetensors"
    save_file({"x": torch.zeros(1)}, wrong)
    options = ["--vae", str(wrong), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(refine_vae.main, options)
    assert result.exit_code == 1
    assert "is not the demo's VAE" in result.output
    assert "Traceback" not in result.output


def test_a_run_begins_with_given_weights_and_their_step(tmp_path: Path, vae_file: Path) -> None:
    """The small state of a run is one to begin with, in fp16, for a model with a camera too."""
    train_dit.train(vae_file, tmp_path / "a", tiny_run(2))
    begun = load_file(tmp_path / "a" / "start" / "dit.safetensors")
    assert "action_embedding.0.weight" not in begun
    config = replace(DIT, camera="columns")
    networks = train_dit.build(config)
    assert load_beginning(networks, tmp_path / "a" / "start") == 2
    weight = networks.dit.blocks[0].self_attn.q.weight
    assert torch.equal(weight, begun["blocks.0.self_attn.q.weight"].float())
    settings = replace(tiny_run(3), config=config, start=tmp_path / "a" / "start")
    train_dit.train(vae_file, tmp_path / "b", settings)
    assert torch.load(tmp_path / "b" / "dit.pt")["step"] == 3
    assert load_beginning(networks, tmp_path / "b" / "start") == 3
    other = train_dit.build(replace(DIT, num_layers=2))
    with pytest.raises(BadInput, match="another model"):
        load_beginning(other, tmp_path / "a" / "start")


def test_the_second_edition_runs_all_its_parts(
    tmp_path: Path, vae_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step on clips that return, after a pass that makes a history of its own."""
    own: list[int] = []
    paces: list[float] = []
    make, lag_of = train_dit.with_own_history, train_dit.pace_loss

    def count(predict: Callable[[Batch], torch.Tensor], batch: Batch) -> Batch:
        own.append(len(batch.x))
        return make(predict, batch)

    def note(error: torch.Tensor, batch: Batch) -> torch.Tensor:
        loss = lag_of(error, batch)
        paces.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(train_dit, "with_own_history", count)
    monkeypatch.setattr(train_dit, "pace_loss", note)
    task = ReturnTask(ReturnSpec(2, 16, farthest=10), 1)
    settings = replace(
        tiny_run(1), config=replace(DIT, camera="columns"), own_history=1.0, pace=1.0,
        tasks={"return": task}, task_at=lambda share, rng: "return", rate=0.5,
    )  # fmt: skip
    train_dit.train(vae_file, tmp_path, settings)
    assert own == [1]
    assert len(paces) == 1 and paces[0] > 0
    saved = load_file(tmp_path / "dit.safetensors")
    assert saved["world_columns"].item() == pytest.approx(0.25 / GROWTH, rel=1e-2)
    assert saved["world_turns"].max().item() == pytest.approx(1 / TURNS_GROWTH, rel=1e-2)


@pytest.mark.parametrize(
    ("has_columns", "step", "columns", "turns"),
    [
        (False, 0, 0.25 / GROWTH, 1 / TURNS_GROWTH),
        (True, 0, 0.25, 1.0),
        (False, TURNS_GROWTH // 2, 0.25 * (TURNS_GROWTH // 2 + 1) / GROWTH, 0.5125),
        (False, GROWTH, 0.25, 1.0),
    ],
)
def test_columns_grow_in_where_weights_lack_them(
    tmp_path: Path, vae_file: Path, has_columns: bool, step: int, columns: float, turns: float
) -> None:
    config = replace(DIT, camera="columns")
    networks = train_dit.build(config if has_columns else DIT)
    if has_columns:
        grow_columns(networks.dit, GROWTH)
    train_dit.save(tmp_path, train_dit.copy_of(networks), networks)
    later = train_dit.build(config)
    load_beginning(later, tmp_path)
    grow_columns(later.dit, step)
    assert float(later.dit.world_columns) == pytest.approx(columns, rel=1e-3)
    torch.testing.assert_close(later.dit.world_turns.data, column_turns(DIT.head_dim, turns))


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # bfloat16 beside float32 weights
def test_half_precision_learns_nearly_the_same(tmp_path: Path, vae_file: Path) -> None:
    for half in (False, True):
        train_dit.train(vae_file, tmp_path / f"{half}", replace(tiny_run(2), half=half))
    whole, half = (load_file(tmp_path / name / "dit.safetensors") for name in ("False", "True"))
    assert any(not torch.equal(whole[n], half[n]) for n in whole)
    for name in whole:
        torch.testing.assert_close(whole[name].float(), half[name].float(), atol=0.05, rtol=0.1)
