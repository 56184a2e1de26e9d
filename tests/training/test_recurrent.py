"""A tiny training run of the recurrent model: it learns, resumes, and writes files that load."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import torch
from click.testing import CliRunner

from longtake.model.checkpoint import load_text_encoder
from longtake.model.preset import DEMO_FOLDER
from longtake.model.recurrent.config import RecurrentConfig
from longtake.model.recurrent.file import load_recurrent
from longtake.model.recurrent.forward import predict, project_text
from longtake.tests.support.tiny_model import randn, randomise
from longtake.tests.support.training_runs import save_tiny_vae, tiny_run
from longtake.training import train_recurrent
from longtake.training.run import Curve
from longtake.training.train_recurrent import RecurrentTraining, velocity_of
from longtake.training.world.dataset import Pool

CONFIG = RecurrentConfig(dim=8, num_layers=1, text_dim=64)
TEXT = load_text_encoder(DEMO_FOLDER / "text.safetensors")


def still_clips() -> Pool:
    """Clips in which every latent frame repeats the first one."""
    latents = randn(8, 1, 16, 4, 4, seed=1).expand(8, 5, 16, 4, 4)
    zeros = torch.zeros(8, 5)
    return Pool(latents, torch.ones(8, 1, 24).long(), zeros.long(), torch.zeros(8, 5, 4, 4),
                zeros, zeros)  # fmt: skip


def test_the_loss_falls_through_the_state() -> None:
    """Frames that repeat a clean past are nowhere but in the state where all else is noise."""
    torch.manual_seed(0)
    network, clips = train_recurrent.build(replace(CONFIG, dim=24)), still_clips()
    descent = train_recurrent.descent_of(network, Curve(60, warmup=5))

    def loss(seed: int) -> torch.Tensor:
        return train_recurrent.loss_of(network, TEXT, clips, random.Random(seed))

    first = float(loss(0).detach())
    for step in range(60):
        descent.step(loss(step), step)
    assert float(loss(0).detach()) < 0.9 * first
    levels = torch.zeros(8, 5)
    levels[:, -1] = 1.0
    x = clips.latents.clone()
    x[:, -1] = randn(8, 16, 4, 4, seed=3)
    other = x.clone()
    other[:, :-1] = other[:, :-1].roll(1, 0)  # another clip's past
    with torch.no_grad():
        both = (replace(clips, latents=part) for part in (x, other))
        velocities = [velocity_of(network, TEXT, part, levels)[:, -1] for part in both]
    truth = x[:, -1] - clips.latents[:, -1]
    ours, theirs = ((v - truth).square().mean() for v in velocities)
    assert ours < theirs


@torch.no_grad()
def test_a_clip_is_told_its_levels_and_its_captions_as_a_rollout_tells_them() -> None:
    network = train_recurrent.build(replace(CONFIG, in_channels=16, out_channels=16))
    randomise(network, 2)
    captions = torch.tensor([[[5, 6, 0], [7, 8, 9]]]).expand(8, 2, 3)
    levels = torch.tensor([[0.0, 0.1, 0.5, 0.9, 1.0]]).expand(8, 5)
    which = torch.tensor([[0, 0, 1, 1, 0]]).expand(8, 5)
    clips = replace(still_clips(), captions=captions, which=which)
    ours = velocity_of(network, TEXT, clips, levels)
    words = project_text(network, TEXT(captions)[0][None])
    text = words.in_runs(((0, 2), (1, 2), (0, 1)))
    one = clips.latents[:1]
    history = train_recurrent.no_history(one, network)
    expected = predict(network, one, torch.tensor([[0.0, 100, 500, 900, 1000]]), text, history)
    torch.testing.assert_close(ours[:1], expected.velocity)


def test_half_of_the_clips_begin_with_a_history_at_low_noise() -> None:
    levels = train_recurrent.draw_levels(random.Random(0), 400, 6)
    share = (levels[:, 0] <= 0.1).float().mean()
    assert 0.4 < share < 0.65 and (levels[:, -1] > 0.1).float().mean() > 0.9


def test_a_stopped_run_resumes_and_its_files_load(tmp_path: Path) -> None:
    vae_file, task = save_tiny_vae(tmp_path), tiny_run(1).probe
    settings = RecurrentTraining(1, config=CONFIG, task=task)
    train_recurrent.train(vae_file, tmp_path / "out", settings)
    train_recurrent.train(vae_file, tmp_path / "out", replace(settings, steps=3))
    state = torch.load(tmp_path / "out" / "recurrent.pt")
    assert state["step"] == 3
    network, config = load_recurrent(tmp_path / "out" / "recurrent.safetensors")
    assert config == CONFIG
    averaged = state["averaged"]["stem.weight"]
    assert torch.equal(network.stem.weight, averaged.half().float())


def test_the_command_says_what_it_needs() -> None:
    result = CliRunner().invoke(train_recurrent.main, [])
    assert result.exit_code == 2 and "--vae" in result.output
