"""Small frames as the demo's first stage shows them, whose large truth is known.

A generated shot has no truth. So the transformer is given a true clip with noise on it and takes it
off again: what is seen stays in its place, and looks as if the transformer had made it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...model.checkpoint import load_dit, load_text_encoder, load_tiny_vae
from ...model.preset import DEMO
from ...model.vae.tiny import TinyVAE, decode_all, encode_all
from ..batches import Batch, Layout, frame_mask, lay_out
from ..train_dit import Networks
from ..world.dataset import Pool, ball_cells, caption_rows, latent_pans, latent_travel
from ..world.scene import Shot
from .pairs import FirstStage

MAX_LATENT_NOISE = 0.25  # standard deviation; latents have about unit variance
STRENGTHS = 0.2, 0.55  # least and most noise that the transformer takes off; more moves things
STEPS = 2
GENERATED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class VAEStage:
    """Frames after the VAE, with noise of a random strength on their latents."""

    vae: TinyVAE
    noise: float = MAX_LATENT_NOISE

    def __call__(self, shots: Sequence[Shot], rng: random.Random, frames: Tensor) -> Tensor:
        latents = encode_all(self.vae, frames)
        level = self.noise and rng.uniform(0, self.noise)
        return decode_all(self.vae, latents + level * torch.randn_like(latents))


@dataclass(frozen=True, slots=True)
class GeneratingStage:
    """Frames after the VAE, or after the transformer too."""

    vae: VAEStage
    networks: Networks

    def __call__(self, shots: Sequence[Shot], rng: random.Random, frames: Tensor) -> Tensor:
        is_driven = any(shot.drive for shot in shots)  # against its words, so it would go astray
        if is_driven or rng.random() >= GENERATED_SHARE:
            return self.vae(shots, rng, frames)
        clips = clips_of(self, shots, rng, frames)
        latents = regenerated(self.networks, clips, rng.uniform(*STRENGTHS), rng)
        return decode_all(self.vae.vae, latents)


def regenerated(networks: Networks, clips: Pool, strength: float, rng: random.Random) -> Tensor:
    """Latents (b, f, c, h, w) of `clips` with noise of `strength` (0 to 1) taken off in steps.

    Each chunk sees the true chunks before it, as `train_dit` shows them.
    """
    frames = clips.latents.shape[1]
    copied = [*range(frames)]
    mask = frame_mask(frames, copied, DEMO.chunk_frames, frames)
    layout = Layout(copied * 2, copied, mask, edges=False)
    levels = torch.linspace(strength, 0, STEPS + 1)
    batch = lay_out(clips, layout, _levels_of(clips, levels[0]), rng)
    for level, following in zip(levels[:-1], levels[1:], strict=True):
        noisy = batch.x[:, frames:] + (following - level) * networks(batch)
        batch = _continued(batch, clips, noisy, following)
    return batch.x[:, frames:]


def _continued(batch: Batch, clips: Pool, noisy: Tensor, level: Tensor) -> Batch:
    latents = torch.cat([clips.latents, noisy], 1)
    return replace(batch, x=latents, levels=_levels_of(clips, level))


def _levels_of(clips: Pool, level: Tensor) -> Tensor:
    """Levels (b, 2f): 0 for the clean frames, `level` for their copies."""
    clean = torch.zeros(clips.latents.shape[:2])
    return torch.cat([clean, clean + level], 1)


def clips_of(
    stage: GeneratingStage, shots: Sequence[Shot], rng: random.Random, frames: Tensor
) -> Pool:
    """The `frames` of `shots` as latents, with their captions."""
    latents = encode_all(stage.vae.vae, frames)
    count, width = latents.shape[1], frames.shape[-1]
    ids, which = caption_rows(stage.networks.text, shots, count, rng)
    return Pool(
        latents, ids, which, ball_cells(shots, count, width), latent_pans(shots, count),
        latent_travel(shots, count),
    )  # fmt: skip


def load_stage(folder: Path) -> tuple[TinyVAE, FirstStage]:
    """Load the first stage's networks from `folder`; also its VAE, for frames without noise."""
    vae = load_tiny_vae(folder / "vae.safetensors")
    dit, text = load_dit(folder / "dit.safetensors"), load_text_encoder(folder / "text.safetensors")
    return vae, GeneratingStage(VAEStage(vae), Networks(dit, text))
