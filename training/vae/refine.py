"""Widen the VAE's decoder, or make it narrower, and continue its training.

`python -m longtake.training.vae.refine --vae FILE --out DIR`.

Widening does not change the decoder's output: new channels start with outgoing weights of zero, as
in Net2Net (arXiv 1511.05641). Training then uses less latent noise and a loss closer to PSNR. The
DiT is trained on the encoder's latents, so the encoder stays as it is. With `--train-encoder` the
encoder changes too, and the DiT must be trained again. `--widths` below the decoder's own leave out
the channels that matter least (`slim.py`). Give the same command again to resume.
"""

from __future__ import annotations

import copy
import logging
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...model.checkpoint import load_tiny_vae
from ...model.vae.tiny import (
    Conv,
    Grow,
    MemoryBlock,
    TinyVAE,
    TinyVAEConfig,
    decode_all,
    encode_all,
)
from ..command import FILE, FOLDER, keep_freed_memory, reporting
from ..evaluation.psnr import psnr
from ..run import Curve, TrainingRun, matrix_descent, save_half, save_whole
from ..world.picture_pool import PicturePool, PictureSpec, held_out_clips
from .slim import slimmed
from .train import TrainedVAE, fold_norm

LATENT_NOISE = 0.04
EXAMPLES = 32  # clips that tell which channels matter

logger = logging.getLogger("longtake")


@dataclass(frozen=True, slots=True)
class VAERefinement:
    """Length and sizes of a run; `widths` are the new decoder's channels at 1/2, 1/4 and 1/8."""

    steps: int = 2000
    seed: int = 1
    batch: int = 6
    pictures: PictureSpec = PictureSpec(clips=120)
    widths: tuple[int, int, int] = (64, 80, 128)
    train_encoder: bool = False
    rate: float = 1.0  # share of the usual peak learning rate
    save_every: int = 100


def resized(vae: TinyVAE, widths: tuple[int, int, int], pictures: Tensor) -> TinyVAE:
    """Return a VAE whose decoder has the `widths`, none of them wider than now or none narrower.

    `pictures` (b, 1 + 4k, 3, H, W) tell which channels matter.
    """
    if all(new <= old for new, old in zip(widths, vae.config.decoder_widths, strict=True)):
        with torch.no_grad():
            return slimmed(vae, widths, encode_all(vae, pictures))
    return widen_decoder(vae, widths)


def widen_decoder(vae: TinyVAE, widths: tuple[int, int, int]) -> TinyVAE:
    """Return a VAE with a wider decoder that computes the same function."""
    weights = vae.state_dict()
    e2, e4, e8 = (len(weights[f"encoder.{layer}.weight"]) for layer in (0, 2, 6))
    wide = TinyVAE(TinyVAEConfig((e2, e4, e8), widths))
    wide.encoder.load_state_dict(vae.encoder.state_dict())
    for old, new in zip(vae.decoder, wide.decoder, strict=True):
        match (old, new):
            case (MemoryBlock(), MemoryBlock()):
                widen(old.join, new.join, inputs=2)
                widen(old.middle, new.middle)
                widen(old.out, new.out)
                new.out.weight.data[len(old.out.weight) :] = 0
            case (Grow(), Grow()):
                widen(old.split, new.split, outputs=2)
            case (Conv(), Conv()):
                widen(old, new)
    return wide


@torch.no_grad()
def widen(old: nn.Conv2d, new: nn.Conv2d, *, inputs: int = 1, outputs: int = 1) -> None:
    """Copy `old` into the wider `new`, in place.

    Channels come in `inputs` (`outputs`) equal groups, each padded at its end. Weights from new
    input channels to old outputs are zero, so old channels keep their values.
    """
    layout, groups = "(k o) (j i) h w -> k o j i h w", {"k": outputs, "j": inputs}
    into = rearrange(new.weight, layout, **groups)
    source = rearrange(old.weight, layout, **groups)
    o, i = source.shape[1], source.shape[3]
    into[:, :o, :, i:] = 0
    into[:, :o, :, :i] = source
    assert old.bias is not None and new.bias is not None
    new.bias.view(outputs, -1)[:, :o] = old.bias.view(outputs, -1)


def refine(vae_file: Path, out: Path, settings: VAERefinement) -> None:
    """Run or resume; write `vae.safetensors` (fp16) and `vae_fp32.safetensors` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    pool = PicturePool(settings.pictures, rng)
    model = TrainedVAE(resized(load_tiny_vae(vae_file), settings.widths, pool.pictures[:EXAMPLES]))
    model.requires_grad_(True)
    model.vae.encoder.requires_grad_(settings.train_encoder)
    if not settings.train_encoder:
        model.norm = nn.Identity()  # the latents have unit variance already
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    curve = Curve(settings.steps, decay_share=1.0)
    rate = settings.rate
    descent = matrix_descent(trained, curve, muon=0.005 * rate, adamw=5e-4 * rate)
    run = TrainingRun(out / "refine.pt", model, descent)
    run.resume(rng, settings.seed)
    held_out = held_out_clips(settings.pictures)
    for step in range(run.done, settings.steps):
        pictures = pool.draw(step, settings.batch)
        loss = loss_of(decode_all(model.vae, noisy(model.encode(pictures))), pictures)
        run.descend(loss)
        if run.is_due(settings.save_every):
            quality = f"psnr {held_out_psnr(model, held_out):.2f}"
            logger.info("step %d loss %.4f %s %.0fs", run.done, loss.item(), quality, run.elapsed_s)
            run.save()
            weights = fold_norm(copy.deepcopy(model)).state_dict()
            save_half(weights, out / "vae.safetensors")
            save_whole(weights, out / "vae_fp32.safetensors")


def noisy(latents: Tensor) -> Tensor:
    """Return `latents` with a little noise, so that the decoder learns to ignore it."""
    return latents + LATENT_NOISE * torch.randn_like(latents)


def loss_of(output: Tensor, target: Tensor) -> Tensor:
    """L1 plus 15 times MSE: this run optimises PSNR."""
    return F.l1_loss(output, target) + 15 * F.mse_loss(output, target)


@torch.no_grad()
def held_out_psnr(model: TrainedVAE, held_out: Tensor) -> float:
    """Return held-out PSNR in dB, with the running mean and variance of the latents."""
    model.eval()
    decoded = decode_all(model.vae, model.encode(held_out))
    model.train()
    return psnr(decoded, held_out)


@click.command(help=__doc__)
@click.option("--vae", type=FILE, required=True, help="The vae.safetensors of training.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the weights and the state.")
@click.option("--steps", type=click.IntRange(1), default=VAERefinement().steps, show_default=True)
@click.option("--seed", type=int, default=VAERefinement().seed, show_default=True)
@click.option("--train-encoder", is_flag=True, help="Train the encoder too: this changes latents.")
@click.option("--rate", type=float, default=1.0, help="Share of the usual peak learning rate.")
@click.option(
    "--widths",
    type=(int, int, int),
    default=VAERefinement().widths,
    show_default=True,
    help="The decoder's channels at 1/2, 1/4 and 1/8.",
)
def main(vae: Path, out: Path, **choices: Any) -> None:
    with reporting():
        refine(vae, out, VAERefinement(**choices))


if __name__ == "__main__":
    keep_freed_memory()
    main()
