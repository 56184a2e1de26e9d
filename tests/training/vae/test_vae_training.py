"""Tiny training runs of the VAE and of its wider decoder."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from longtake.model.checkpoint import load_tiny_vae
from longtake.model.vae.tiny import Conv, TinyVAE, decode_all, encode_all
from longtake.tests.support.tiny_model import randn, randomise
from longtake.tests.support.training_runs import WIDTHS, save_tiny_vae
from longtake.training.vae import refine as refine_vae
from longtake.training.vae import train as train_vae
from longtake.training.vae.train import TrainedVAE, fold_norm, psnr
from longtake.training.world.picture_pool import PicturePool, PictureSpec, held_out_clips

PICTURES = PictureSpec(clips=8, held_out=1, height=16, width=16)


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


def test_a_wrong_file_is_one_sentence(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.safetensors"
    save_file({"x": torch.zeros(1)}, wrong)
    options = ["--vae", str(wrong), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(refine_vae.main, options)
    assert result.exit_code == 1
    assert "is not the demo's VAE" in result.output
    assert "Traceback" not in result.output
