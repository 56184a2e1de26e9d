"""Training data for a camera that obeys keys."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from longtake.model.config import Camera, DiTConfig
from longtake.model.dit import WanDiT
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.tests.support.tiny_model import randomise
from longtake.training import train_dit
from longtake.training.batches import DRIVEN_TASKS, TASKS, Task, make_batch
from longtake.training.beginnings import load_beginning
from longtake.training.train_dit import DiTTraining, build, copy_of, loss_of, save, train
from longtake.training.world.clips import driven_shot, latent_start, perhaps_driven, random_shot
from longtake.training.world.dataset import ClipMaker, PoolSpec, latent_pans
from longtake.training.world.scene import Shot, scene

SIZES = DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=1, text_dim=8, camera="action")
TASK = Task(
    PoolSpec(clips=4, latent_frames=9, width=16, script=driven_shot), 2, 6, 6, windows=(3, 6)
)
LEFT = {"ball": "red", "time": "day", "terrain": "snow", "weather": "cloudy", "pan": "left"}


def tiny_vae() -> TinyVAE:
    vae = TinyVAE(TinyVAEConfig((4, 4, 8), (4, 4, 8)))
    randomise(vae, 0)
    return vae.eval()


def test_keys_overrule_the_words_and_stop_at_once() -> None:
    shot = Shot(((0, LEFT),), 5, drive=((0, 1.0), (5, 0.0), (7, -0.5)))
    camera = scene([shot], 9).camera[0]
    steps = camera.diff()
    assert torch.allclose(steps, torch.tensor([1, 1, 1, 1, 0, 0, -0.5, -0.5]), atol=1e-3)
    by_words = scene([Shot(((0, LEFT),), 5)], 9).camera[0].diff()
    assert torch.allclose(by_words, torch.tensor(-1.0), atol=1e-3)


def test_the_pan_of_a_latent_frame_is_how_far_the_camera_went() -> None:
    rng = random.Random(1)
    shots = [script(rng, 8) for script in (driven_shot, random_shot, driven_shot)]
    pans = latent_pans(shots, 8)
    camera = scene(shots, latent_start(8)).camera
    assert pans[:, 0].abs().max() == 0
    for frame in range(1, 8):
        last = latent_start(frame) + 3
        moved = (camera[:, last] - camera[:, last - 4]) / 4
        assert torch.allclose(pans[:, frame], moved, atol=1e-3)


def test_scripts_hold_pans_to_both_sides_stops_and_half_speeds() -> None:
    rng = random.Random(0)
    speeds = {speed for _ in range(40) for _, speed in driven_shot(rng, 20).drive}
    assert {-1.0, 0.0, 1.0} < speeds and all(-1 <= speed <= 1 for speed in speeds)
    driven = sum(bool(perhaps_driven(random_shot)(rng, 20).drive) for _ in range(200))
    assert 70 < driven < 130
    assert DRIVEN_TASKS.keys() == TASKS.keys()


def test_a_batch_has_the_pan_of_each_of_its_frames() -> None:
    networks = build(SIZES)
    maker = ClipMaker(tiny_vae(), networks.text, random.Random(0))
    pool = maker.fill(TASK.pool)
    batch = make_batch(pool, TASK, random.Random(2))
    noisy = batch.positions[TASK.context :]
    assert torch.equal(batch.pans[:, TASK.context :], batch.pans[:, noisy])
    rows = [row.tolist() for row in pool.pans.unfold(1, TASK.context, 1).flatten(0, 1)]
    assert all(row[: TASK.context] in rows for row in batch.pans.tolist())


def test_the_loss_depends_on_the_pan_once_the_embedding_is_trained() -> None:
    networks = build(SIZES)
    randomise(networks.dit, 3)
    maker = ClipMaker(tiny_vae(), networks.text, random.Random(0))
    batch = make_batch(maker.fill(TASK.pool), TASK, random.Random(2))
    loss = loss_of(networks, batch)
    batch.pans.neg_()
    assert not torch.isclose(loss, loss_of(networks, batch), rtol=1e-4)


def test_a_fresh_camera_leaves_the_model_as_it_is() -> None:
    """The second layer is zero at the start of training too."""
    state = build(SIZES).dit.state_dict()
    assert state["action_embedding.2.weight"].abs().max() == 0
    assert state["action_embedding.2.bias"].abs().max() == 0
    assert state["action_embedding.0.weight"].abs().max() > 0


@pytest.fixture
def beginnings(tmp_path: Path) -> dict[Camera, Path]:
    """Weights to begin with, by their camera."""
    folders: dict[Camera, Path] = {}
    for camera in ("none", "action", "columns"):
        folders[camera] = tmp_path / camera
        networks = build(replace(SIZES, camera=camera))
        save(folders[camera], copy_of(networks), networks)
    return folders


@pytest.mark.parametrize(
    ("before", "words", "after"),
    [("none", [], "none"), ("none", ["--camera", "columns"], "columns"),
     ("columns", [], "columns"), ("columns", ["--camera", "columns"], "columns"),
     ("action", ["--camera", "columns"], "columns")],
)  # fmt: skip
def test_a_run_takes_the_camera_of_the_weights_that_it_begins_with(
    beginnings: dict[Camera, Path], monkeypatch: pytest.MonkeyPatch,
    before: Camera, words: list[str], after: Camera,
) -> None:  # fmt: skip
    run = Mock()
    monkeypatch.setattr(train_dit, "train", run)
    options = ["--vae", str(beginnings[before] / "dit.safetensors"), "--out", "unused"]
    options += ["--start", str(beginnings[before]), *words]
    result = CliRunner().invoke(train_dit.main, options)
    assert result.exit_code == 0, result.output
    settings = run.call_args.args[2]
    assert settings.config == replace(SIZES, camera=after)
    assert settings.tasks is (TASKS if after == "none" else DRIVEN_TASKS)
    load_beginning(build(settings.config), settings.start)


def test_a_camera_that_weights_cannot_get_is_one_sentence(
    beginnings: dict[Camera, Path], tmp_path: Path
) -> None:
    options = ["--vae", str(beginnings["columns"] / "dit.safetensors"), "--out", str(tmp_path)]
    options += ["--start", str(beginnings["columns"]), "--camera", "action"]
    result = CliRunner().invoke(train_dit.main, options)
    assert result.exit_code == 1 and "leave --camera out" in result.output


def test_a_run_learns_and_saves_the_embedding(tmp_path: Path) -> None:
    save_file(tiny_vae().state_dict(), tmp_path / "vae.safetensors")
    settings = DiTTraining(
        steps=2, config=SIZES, tasks={"narrow": TASK, "memory narrow": TASK}, probe=TASK,
        only="narrow", report_every=1, save_every=1,
    )  # fmt: skip
    train(tmp_path / "vae.safetensors", tmp_path / "out", settings)
    saved = load_file(tmp_path / "out" / "dit.safetensors")
    assert saved.keys() == WanDiT(SIZES).state_dict().keys()
    assert saved["action_embedding.2.bias"].abs().max() > 0
