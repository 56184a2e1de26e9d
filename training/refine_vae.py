"""Widen and polish the VAE's decoder while its latents stay as they are.

`python -m longtake.training.refine_decoder --vae FILE --out DIR`. The DiT is trained on the
encoder's latents, so the encoder is frozen; the decoder is widened without changing what it
computes (new channels start with outgoing weights of zero, as in Net2Net, arXiv 1511.05641) and
trained on with less latent noise. Can run beside the DiT's training, and be resumed.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor, nn

from ..model.checkpoint import load_tiny_vae
from ..model.vae.tiny import Conv, Grow, MemoryBlock, TinyVAE, TinyVAEConfig, decode_all, encode_all
from .command import FILE, FOLDER, keep_freed_memory, reporting
from .picture_pool import PicturePool, PictureSpec, held_out_clips
from .run import Curve, Run, matrix_descent, save_half
from .train_vae import loss_of, psnr

LATENT_NOISE = 0.04

logger = logging.getLogger("longtake")


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how large a run is; `widths` are the new decoder's at 1/2, 1/4 and 1/8."""

    steps: int = 2000
    seed: int = 1
    batch: int = 6
    pictures: PictureSpec = PictureSpec(clips=120)
    widths: tuple[int, int, int] = (64, 80, 128)
    save_every: int = 100


def widened(vae: TinyVAE, widths: tuple[int, int, int]) -> TinyVAE:
    """The same function with a wider decoder."""
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
    """Copy `old` into `new`, in place.

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


def refine(vae_file: Path, out: Path, settings: Settings) -> None:
    """Run or resume; write `vae.safetensors` (fp16) and `vae_fp32.safetensors` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    vae = widened(load_tiny_vae(vae_file), settings.widths)
    vae.encoder.requires_grad_(False)
    decoder = vae.decoder.requires_grad_(True)
    curve = Curve(settings.steps, decay_share=0.9)
    descent = matrix_descent(list(decoder.parameters()), curve, muon=0.008, adamw=1e-3)
    run = Run(out / "refine.pt", vae, descent)
    run.resume(rng, settings.seed)
    pool = PicturePool(settings.pictures, rng)
    held_out = held_out_clips(settings.pictures)
    for step in range(run.done, settings.steps):
        loss = reconstruction_loss(vae, pool.draw(step, settings.batch))
        run.descend(loss)
        if run.is_due(settings.save_every):
            quality = f"psnr {held_out_psnr(vae, held_out):.2f}"
            logger.info("step %d loss %.4f %s %.0fs", run.done, loss.item(), quality, run.elapsed_s)
            run.save()
            save_half(vae.state_dict(), out / "vae.safetensors")
            save_file(vae.state_dict(), out / "vae_fp32.safetensors")


def reconstruction_loss(vae: TinyVAE, pictures: Tensor) -> Tensor:
    """The loss of decoding slightly noisy latents of `pictures` (b, 1 + 4k, 3, H, W)."""
    with torch.no_grad():
        latents = encode_all(vae, pictures)
    noisy = latents + LATENT_NOISE * torch.randn_like(latents)
    return loss_of(decode_all(vae, noisy), pictures)


@torch.no_grad()
def held_out_psnr(vae: TinyVAE, held_out: Tensor) -> float:
    """Held-out PSNR in dB."""
    return psnr(decode_all(vae, encode_all(vae, held_out)), held_out)


@click.command(help=__doc__)
@click.option("--vae", type=FILE, required=True, help="The vae.safetensors of train_vae.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the weights and the state.")
@click.option("--steps", type=click.IntRange(1), default=Settings().steps, show_default=True)
@click.option("--seed", type=int, default=Settings().seed, show_default=True)
def main(vae: Path, out: Path, steps: int, seed: int) -> None:
    """Command line."""
    with reporting():
        refine(vae, out, Settings(steps=steps, seed=seed))


if __name__ == "__main__":
    keep_freed_memory()
    main()
