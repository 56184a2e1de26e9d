"""The loss of the camera's pace: which share of a frame's movement a prediction lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from longtake.training import train_dit
from longtake.training.batches import Batch
from longtake.training.pace import PACE_WEIGHT, pace_loss
from longtake.training.train_dit import DiTTraining

CONTEXT, COPIED = 6, [2, 3, 4]


def batch(pan: float, level: float = 0.5) -> Batch:
    """Two clips of noise as latents, of which frames 2 to 4 are denoised."""
    random = torch.Generator().manual_seed(3)
    truth, noise = torch.randn(2, 2, 9, 16, 8, 12, generator=random)
    truth[:, CONTEXT:] = truth[:, COPIED]
    levels = torch.full((2, 9), level)
    return Batch(
        x=(1 - level) * truth + level * noise, levels=levels,
        target=(noise - truth)[:, CONTEXT:], captions=torch.zeros(2, 1, 4),
        which=torch.zeros(2, 9), positions=[], mask=torch.ones(1, 1),
        weight=torch.ones(2, 3, 8, 12), pans=torch.full((2, 9), pan),
        travel=torch.zeros(2, 9), copied=COPIED,
    )  # fmt: skip


def truth_of(given: Batch) -> Tensor:
    """The clean latents of the denoised frames."""
    return given.x[:, CONTEXT:] - given.levels[:, CONTEXT:, None, None, None] * given.target


def behind(given: Batch, share: float) -> Tensor:
    """The velocity's error where scenery stays behind by a `share` of a latent frame's movement."""
    truth = truth_of(given)
    lag = torch.zeros_like(truth)
    lag[:, 1:] = share * (truth[:, 1:] - truth[:, :-1])
    return lag / given.levels[:, CONTEXT:, None, None, None]


@pytest.mark.parametrize("level", [0.2, 1.0])
@pytest.mark.parametrize(("pan", "share"), [(1.0, 0.25), (-0.5, 0.25), (1.0, -0.1), (0.0, 0.25)])
def test_the_loss_is_the_square_of_the_lag_and_of_the_pan(
    level: float, pan: float, share: float
) -> None:
    given = batch(pan, level)
    assert float(pace_loss(behind(given, share), given)) == pytest.approx(
        (pan * share) ** 2, abs=1e-6
    )


def test_cells_of_the_ball_and_of_entering_scenery_do_not_count() -> None:
    given = batch(1.0)
    weight = given.weight.clone()
    weight[..., :2] = 6.0
    error = behind(given, 0.25)
    error[..., :2] = 100.0
    assert float(pace_loss(error, replace(given, weight=weight))) == pytest.approx(0.25**2)


def test_a_frame_counts_only_beside_the_one_before() -> None:
    given = replace(batch(1.0), copied=[0, 2, 4])
    assert float(pace_loss(behind(given, 0.25), given)) == 0.0


def test_an_error_that_is_no_movement_hardly_counts() -> None:
    given = batch(1.0)
    other = torch.randn(given.target.shape, generator=torch.Generator().manual_seed(9))
    assert float(pace_loss(other, given)) < 0.01 * float(other.square().mean())


def test_the_second_edition_trains_the_pace_and_the_other_models_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[DiTTraining] = []
    monkeypatch.setattr(train_dit, "train", lambda vae, out, settings: runs.append(settings))
    vae = tmp_path / "vae.safetensors"
    vae.write_bytes(b"")
    for options in ([], ["--second", "--camera", "columns"]):
        done = CliRunner().invoke(
            train_dit.main, ["--vae", str(vae), "--out", str(tmp_path), *options]
        )
        assert done.exit_code == 0, done.output
    assert [run.pace for run in runs] == [0.0, PACE_WEIGHT]


def test_the_pace_is_added_to_the_loss_of_the_cells() -> None:
    given = batch(1.0)
    error = behind(given, 0.25)
    networks = cast(train_dit.Networks, lambda seen: seen.target + error)
    cells = float(error.square().mean())
    assert float(train_dit.loss_of(networks, given)) == pytest.approx(cells)
    assert float(train_dit.loss_of(networks, given, 2.0)) == pytest.approx(cells + 2 * 0.25**2)
