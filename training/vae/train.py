"""Train the demo's VAE on rendered clips: `python -m longtake.training.vae.train --out DIR`.

A batch norm without affine parameters normalises the latent: unit variance by construction, and no
KL term. Before saving, the norm is folded into the last encoder convolution, because its running
variance exceeds the range of fp16. Give the same command again to resume.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...model.vae.latent_format import LATENT_CHANNELS
from ...model.vae.tiny import Conv, TinyVAE, TinyVAEConfig, decode_all, encode_all
from ..command import FOLDER, keep_freed_memory, reporting
from ..evaluation.psnr import psnr
from ..run import Curve, TrainingRun, matrix_descent, save_half, save_whole
from ..world.picture_pool import PicturePool, PictureSpec, held_out_clips

LATENT_NOISE = 0.1

logger = logging.getLogger("longtake")


@dataclass(frozen=True, slots=True)
class VAETraining:
    """Length and sizes of a VAE training run."""

    steps: int = 2500
    seed: int = 0
    batch: int = 6
    pictures: PictureSpec = PictureSpec(clips=160)
    widths: TinyVAEConfig = TinyVAEConfig()
    save_every: int = 100


class TrainedVAE(nn.Module):
    """The VAE with the batch norm that training inserts between encoder and decoder."""

    def __init__(self, vae: TinyVAE) -> None:
        super().__init__()
        self.vae = vae
        self.norm: nn.Module = nn.BatchNorm3d(LATENT_CHANNELS, affine=False, momentum=0.02)

    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames (b, 1 + 4k, 3, H, W) to normalised latents (b, 1 + k, 16, h, w)."""
        latents: Tensor = self.norm(encode_all(self.vae, frames).transpose(1, 2))
        return latents.transpose(1, 2)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode frames and decode them from slightly noisy latents."""
        latents = self.encode(frames)
        return decode_all(self.vae, latents + LATENT_NOISE * torch.randn_like(latents))


def loss_of(output: Tensor, target: Tensor) -> Tensor:
    """L1 for sharpness plus MSE for PSNR."""
    return F.l1_loss(output, target) + 2 * F.mse_loss(output, target)


def fold_norm(model: TrainedVAE) -> TinyVAE:
    """Return the VAE with its norm, if any, folded (in place) into the last encoder convolution."""
    if not isinstance(model.norm, nn.BatchNorm3d):
        return model.vae
    mean, variance, last = model.norm.running_mean, model.norm.running_var, model.vae.encoder[-1]
    assert mean is not None and variance is not None
    assert isinstance(last, Conv) and last.bias is not None
    scale = (variance + model.norm.eps).rsqrt()
    last.weight.data.mul_(scale.view(-1, 1, 1, 1))
    last.bias.data.sub_(mean).mul_(scale)
    return model.vae


def train(out: Path, settings: VAETraining) -> None:
    """Run or resume; write `vae.safetensors` (fp16) and `vae_fp32.safetensors` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(settings.seed)
    torch.manual_seed(settings.seed)
    model = TrainedVAE(TinyVAE(settings.widths))
    curve = Curve(settings.steps, decay_share=0.65)
    descent = matrix_descent(list(model.parameters()), curve, muon=0.02, adamw=2e-3)
    run = TrainingRun(out / "vae.pt", model, descent)
    run.resume(rng, settings.seed)
    pool = PicturePool(settings.pictures, rng)
    held_out = held_out_clips(settings.pictures)
    for step in range(run.done, settings.steps):
        pictures = pool.draw(step, settings.batch)
        loss = loss_of(model(pictures), pictures)
        run.descend(loss)
        if run.is_due(settings.save_every):
            quality = describe(model, held_out)
            logger.info("step %d loss %.4f %s %.0fs", run.done, loss.item(), quality, run.elapsed_s)
            run.save()
    weights = fold_norm(model.eval()).state_dict()
    save_half(weights, out / "vae.safetensors")
    save_whole(weights, out / "vae_fp32.safetensors")  # the reference for the fp16 file


@torch.no_grad()
def describe(model: TrainedVAE, held_out: Tensor) -> str:
    """Describe held-out PSNR: all frames, the first, and each of the four frames of a latent."""
    model.eval()
    decoded = decode_all(model.vae, model.encode(held_out))
    model.train()
    groups = " ".join(f"{psnr(decoded[:, i::4], held_out[:, i::4]):.1f}" for i in range(1, 5))
    first = psnr(decoded[:, :1], held_out[:, :1])
    return f"psnr {psnr(decoded, held_out):.2f} first {first:.1f} sub-frames {groups}"


@click.command(help=__doc__)
@click.option("--out", type=FOLDER, required=True, help="Folder for the weights and the state.")
@click.option("--steps", type=click.IntRange(1), default=VAETraining().steps, show_default=True)
@click.option("--seed", type=int, default=VAETraining().seed, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=VAETraining().batch, show_default=True)
def main(out: Path, steps: int, seed: int, batch: int) -> None:
    with reporting():
        train(out, VAETraining(steps=steps, seed=seed, batch=batch))


if __name__ == "__main__":
    keep_freed_memory()
    main()
