"""Tiny training runs of the DiT and the oracle."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from longtake.errors import BadInput
from longtake.model.camera.columns import column_turns
from longtake.model.checkpoint import load_dit, load_text_encoder, load_tiny_vae
from longtake.tests.support.tiny_model import randn
from longtake.tests.support.training_runs import DIT, save_tiny_vae, tiny_run
from longtake.training import train_dit, train_oracle
from longtake.training.batches import Batch
from longtake.training.beginnings import GROWTH, TURNS_GROWTH, grow_columns, load_beginning
from longtake.training.evaluation import oracle
from longtake.training.served import ReturnTask
from longtake.training.world.picture_pool import PictureSpec
from longtake.training.world.returns import ReturnSpec
from longtake.training.world.scene import ATTRIBUTE_SIZE

PICTURES = PictureSpec(clips=8, held_out=1, height=16, width=16)
COMMANDS = (
    "vae.train", "vae.refine", "train_dit", "train_recurrent", "train_oracle",
    "evaluation.calibrate_detectors", "evaluate",
)  # fmt: skip


@pytest.fixture
def vae_file(tmp_path: Path) -> Path:
    return save_tiny_vae(tmp_path)


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
    with pytest.raises(BadInput, match="have had 2 steps already.*give more --steps"):
        train_dit.train(vae_file, tmp_path / "c", replace(settings, steps=2))
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
