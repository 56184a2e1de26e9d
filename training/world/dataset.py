"""Pools of encoded clips for training the DiT: rendered, encoded to latents, and captioned."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...model.text import TextEncoder
from ...model.vae.latent_format import FRAMES_PER_LATENT, SPATIAL_FACTOR, frame_count
from ...model.vae.tiny import TinyVAE
from .attributes import caption
from .clips import Script, latent_start
from .renderer import BALL_RADIUS, ball_centre, render
from .scene import Shot, pan_velocity, scene

MAX_CAPTIONS = 12  # one per camera reversal and the first
HEIGHT = 64
RENDERED_LATENTS = 12  # latent frames rendered and encoded at once; bounds memory


@dataclass(slots=True)
class Pool:
    """Encoded clips for the DiT.

    `latents` (n, f, 16, h, w) fp16. `captions` (n, MAX_CAPTIONS, text_len): word ids. `which` (n,
    f): index of the caption in force at each latent frame. `ball` (n, f, h, w) bool: cells that the
    ball touches. `pans` (n, f): the camera's pan, -1 left to 1 right.
    """

    latents: Tensor
    captions: Tensor
    which: Tensor
    ball: Tensor
    pans: Tensor


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """The number of clips in a pool, and each clip's length, width in pixels and script."""

    clips: int
    latent_frames: int
    width: int
    script: Script


@dataclass(frozen=True, slots=True)
class ClipMaker:
    """Render, encode and caption clips with a frozen VAE, a vocabulary and a random generator."""

    vae: TinyVAE
    text: TextEncoder
    rng: random.Random

    def fill(self, spec: PoolSpec) -> Pool:
        """Make a whole pool."""
        parts = [self._clips(spec, min(16, spec.clips - at)) for at in range(0, spec.clips, 16)]
        return Pool(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def refresh(self, pool: Pool, spec: PoolSpec, count: int) -> None:
        """Replace `count` clips of `pool` in place."""
        at = self.rng.randrange(spec.clips - count + 1)
        new = self._clips(spec, count)
        columns = pool.latents, pool.captions, pool.which, pool.ball, pool.pans
        for column, value in zip(columns, new, strict=True):
            column[at : at + count] = value

    def _clips(self, spec: PoolSpec, count: int) -> tuple[Tensor, ...]:
        shots = [spec.script(self.rng, spec.latent_frames) for _ in range(count)]
        ids, which = caption_rows(self.text, shots, spec.latent_frames, self.rng)
        latents = encode_shots(self.vae, shots, spec.latent_frames, spec.width).half()
        ball = ball_cells(shots, spec.latent_frames, spec.width)
        return latents, ids, which, ball, latent_pans(shots, spec.latent_frames)


@torch.no_grad()
def encode_shots(vae: TinyVAE, shots: Sequence[Shot], latent_frames: int, width: int) -> Tensor:
    """Render and encode `shots` in pieces: (n, latent_frames, 16, 8, width / 8)."""
    frames = frame_count(latent_frames)
    batch = scene(shots, frames)
    inner = range(latent_start(RENDERED_LATENTS), frames, FRAMES_PER_LATENT * RENDERED_LATENTS)
    memory, parts = vae.start(vae.encoder), []
    for first, stop in pairwise([0, *inner, frames]):
        pictures = render(batch.frames(first, stop), HEIGHT, width)
        if first == 0:  # the first latent stands for one frame, encoded as four copies
            copies = pictures[:, :1].expand(-1, FRAMES_PER_LATENT - 1, -1, -1, -1)
            pictures = torch.cat([copies, pictures], 1)
        latents, memory = vae.encode_groups(pictures, memory)
        parts.append(latents)
    return torch.cat(parts, 1)


def ball_cells(shots: Sequence[Shot], latent_frames: int, width: int) -> Tensor:
    """Mark the latent cells that the ball touches in any of their frames (n, f, h, w)."""
    x, y = ball_centre(scene(shots, frame_count(latent_frames)), width)
    rows = (torch.arange(HEIGHT // SPATIAL_FACTOR) + 0.5) * SPATIAL_FACTOR
    columns = (torch.arange(width // SPATIAL_FACTOR) + 0.5) * SPATIAL_FACTOR
    reach = BALL_RADIUS + SPATIAL_FACTOR / 2
    near = (rows[:, None] - y[..., None, None]).abs() < reach
    near = near & ((columns - x[..., None, None]).abs() < reach)
    later = near[:, 1:].unflatten(1, (-1, FRAMES_PER_LATENT)).any(2)
    return torch.cat([near[:, :1], later], 1)


def latent_pans(shots: Sequence[Shot], latent_frames: int) -> Tensor:
    """The mean pan (n, f) of each latent frame's frames; the first one has not moved yet."""
    velocities = [pan_velocity(shot, frame_count(latent_frames)) for shot in shots]
    later = torch.stack(velocities)[:, 1:].unflatten(1, (-1, FRAMES_PER_LATENT)).mean(2)
    return torch.cat([torch.zeros(len(shots), 1), later], 1)


def caption_rows(
    text: TextEncoder, shots: Sequence[Shot], latent_frames: int, rng: random.Random
) -> tuple[Tensor, Tensor]:
    """Return the word ids of all captions, and the caption index at each latent frame."""
    ids = torch.zeros(len(shots), MAX_CAPTIONS, text.text_len, dtype=torch.long)
    which = torch.zeros(len(shots), latent_frames, dtype=torch.long)
    starts = torch.tensor([latent_start(i) for i in range(latent_frames)])
    for row, shot in enumerate(shots):
        for index, (start, values) in enumerate(shot.values[:MAX_CAPTIONS]):
            words, _ = text.ids(caption(values, rng))
            ids[row, index, : len(words)] = torch.tensor(words)
            which[row, starts >= start] = index
    return ids, which
