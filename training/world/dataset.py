"""Pools of encoded clips for training the DiT: rendered, encoded to latents, and captioned."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from ...model.config import FRAMES_PER_LATENT
from ...model.text import TextEncoder
from ...model.vae.latent_format import SPATIAL_FACTOR, frame_count
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
    ball touches. `pans` (n, f): the camera's pan, -1 left to 1 right. `travel` (n, f): where the
    camera is on the painted strip, in latent frames at full pan.
    """

    latents: Tensor
    captions: Tensor
    which: Tensor
    ball: Tensor
    pans: Tensor
    travel: Tensor


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """The number of clips in a pool, and each clip's length, width in pixels and script."""

    clips: int
    latent_frames: int
    width: int
    script: Script

    def make(self, maker: ClipMaker, count: int) -> Pool:
        """Script `count` whole clips."""
        shots = [self.script(maker.rng, self.latent_frames) for _ in range(count)]
        ids, which = caption_rows(maker.text, shots, self.latent_frames, maker.rng)
        return Pool(
            encode_shots(maker.vae, shots, self.latent_frames, self.width).half(),
            ids,
            which,
            ball_cells(shots, self.latent_frames, self.width),
            latent_pans(shots, self.latent_frames),
            latent_travel(shots, self.latent_frames),
        )


class ClipSpec(Protocol):
    """What a pool is made of: `clips` clips, of which `make` makes some."""

    @property
    def clips(self) -> int:
        """The number of clips in the pool."""

    @property
    def latent_frames(self) -> int:
        """The latent frames of a clip."""

    def make(self, maker: ClipMaker, count: int) -> Pool:
        """Make `count` new clips."""


@dataclass(frozen=True, slots=True)
class ClipMaker:
    """Render, encode and caption clips with a frozen VAE, a vocabulary and a random generator."""

    vae: TinyVAE
    text: TextEncoder
    rng: random.Random

    def fill(self, spec: ClipSpec) -> Pool:
        """Make a whole pool."""
        parts = [spec.make(self, min(16, spec.clips - at)) for at in range(0, spec.clips, 16)]
        return joined(parts)

    def refresh(self, pool: Pool, spec: ClipSpec, count: int) -> None:
        """Replace `count` clips of `pool` in place."""
        at = self.rng.randrange(spec.clips - count + 1)
        new = spec.make(self, count)
        for column in fields(Pool):
            getattr(pool, column.name)[at : at + count] = getattr(new, column.name)


def joined(pools: Sequence[Pool]) -> Pool:
    """One pool with the clips of all `pools`."""
    names = [column.name for column in fields(Pool)]
    return Pool(*(torch.cat([getattr(pool, name) for pool in pools]) for name in names))


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


def latent_travel(shots: Sequence[Shot], latent_frames: int) -> Tensor:
    """Where the camera is at each latent frame (n, f), in latent frames at full pan.

    That is its mean place in the frames that the latent frame stands for, from the clip's start.
    """
    camera = scene(shots, frame_count(latent_frames)).camera.double()
    later = camera[:, 1:].unflatten(1, (-1, FRAMES_PER_LATENT)).mean(2)
    places = torch.cat([camera[:, :1], later], 1) - camera[:, :1]
    return (places / FRAMES_PER_LATENT).float()


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
