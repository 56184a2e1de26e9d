"""Self Gradient Forcing (arXiv 2607.20368) with distribution matching (DMD, arXiv 2311.18828).

First, without gradient, the student makes clips by itself: each chunk from noise, behind the chunks
that it made before. Then one pass over

    [what it made, clean | the noisy latents that it made this from]

shows all of its pictures x again, now with the gradient, which also goes through the keys and
values of the past. Two scores tell where x should go: the teacher's, of what videos look like, and
that of a critic, of what the student's look like. At a level t, both behind the same past,

    x_t  = (1 - t) x + t noise
    g    = (x0_critic(x_t) - x0_teacher(x_t)) / mean |x - x0_teacher(x_t)|
    loss = |x - stop_gradient(x - g)|^2 / 2

The critic learns the velocity of the student's pictures, as a model learns that of true ones.

Other than in Self-Forcing's code, levels are uniform and not shifted, cells are weighed as in the
demo's training, and several steps follow Euler without new noise, as the demo is served.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..batches import Batch, token_mask
from .consistency import Velocity, clean_picture, history_frames, stepped

LOWEST, HIGHEST = 0.02, 0.98
"""The levels at which pictures are judged; a score beyond them says little (Self-Forcing)."""


@torch.no_grad()
def self_rollout(student: Velocity, batch: Batch, ladder: Tensor, steps: int) -> Batch:
    """The clips that the student makes of a batch of noise, and what it made them from.

    Chunk by chunk, the noisy copies begin as noise at the top of the `ladder` and take `steps`
    Euler steps down; what the student then sees in them becomes the clean copies, which the later
    chunks read. Frames without a noisy copy stay the truth.
    """
    clips = replace(batch, x=batch.x.clone(), levels=batch.levels.clone())
    context = history_frames(batch)
    for chunk in chunks_of(batch):
        seen = frames_seen(batch, chunk)
        part = only_frames(clips, seen)
        for _ in range(steps):
            part = stepped(part, student, ladder)
        noisy = slice(context + chunk[0], context + chunk[-1] + 1)
        clips.x[:, noisy] = noise_of(part)
        clips.levels[:, noisy] = part.levels[:, -len(chunk) :]
        clips.x[:, [batch.copied[copy] for copy in chunk]] = clean_picture(student, part)
    return clips


def matching_loss(student: Velocity, critic: Velocity, teacher: Velocity, clips: Batch) -> Tensor:
    """Half the squared distance of the student's pictures of `clips` from where they should go."""
    picture = clean_picture(student, clips)
    judged = renoised(clips, picture.detach())
    with torch.no_grad():
        real = clean_picture(teacher, judged)
        away = clean_picture(critic, judged) - real
        size = (picture - real).abs().mean((1, 2, 3, 4), keepdim=True)
        goal = picture - away / size
    return 0.5 * ((picture - goal).square() * clips.weight[:, :, None]).mean()


def critic_loss(critic: Velocity, clips: Batch) -> Tensor:
    """The squared error of the critic's velocity for the student's pictures, at random levels."""
    judged = renoised(clips, clips.x[:, clips.copied])
    return ((critic(judged) - judged.target).square() * clips.weight[:, :, None]).mean()


def renoised(clips: Batch, picture: Tensor) -> Batch:
    """The batch whose noisy copies are `picture` (b, m, c, h, w) under new noise.

    Each clip has one level; the target is its velocity.
    """
    level = LOWEST + (HIGHEST - LOWEST) * torch.rand(len(picture), 1)
    noise = torch.randn_like(picture)
    share = level[:, :, None, None, None]
    context = history_frames(clips)
    return replace(
        clips,
        x=torch.cat([clips.x[:, :context], (1 - share) * picture + share * noise], 1),
        levels=torch.cat([clips.levels[:, :context], level.expand(-1, picture.shape[1])], 1),
        target=noise - picture,
    )


def noise_of(batch: Batch) -> Tensor:
    """The noisy copies (b, m, c, h, w)."""
    return batch.x[:, history_frames(batch) :]


def chunks_of(batch: Batch) -> list[list[int]]:
    """The noisy copies of each chunk, in order: copies of a chunk see each other."""
    context = history_frames(batch)
    first = frame_mask_of(batch)[context:, context:].int().argmax(1).tolist()
    return [[copy for copy, begins in enumerate(first) if begins == at] for at in sorted({*first})]


def frames_seen(batch: Batch, chunk: list[int]) -> list[int]:
    """The frames that some noisy copies can depend on, their own clean ones and themselves."""
    mask, context = frame_mask_of(batch), history_frames(batch)
    seen = torch.zeros(len(mask), dtype=torch.bool)
    wider = seen.clone()
    wider[[context + copy for copy in chunk]] = True
    while not torch.equal(seen, wider):  # what is seen by what is seen
        seen = wider
        wider = seen | mask[seen].any(0)
    seen[[batch.copied[copy] for copy in chunk]] = True
    return seen.nonzero()[:, 0].tolist()


def frame_mask_of(batch: Batch) -> Tensor:
    """Which frame sees which (f, f)."""
    tokens = len(batch.mask) // batch.x.shape[1]
    return batch.mask[::tokens, ::tokens]


def only_frames(batch: Batch, frames: list[int]) -> Batch:
    """The batch without all other frames; the clean frame of each noisy one must be among them."""
    context = history_frames(batch)
    clean = [frame for frame in frames if frame < context]
    copies = [frame - context for frame in frames if frame >= context]
    mask = frame_mask_of(batch)[frames][:, frames]
    return replace(
        batch,
        x=batch.x[:, frames],
        levels=batch.levels[:, frames],
        target=batch.target[:, copies],
        which=batch.which[:, frames],
        positions=[batch.positions[frame] for frame in frames],
        mask=token_mask(mask, batch.x),
        weight=batch.weight[:, copies],
        pans=batch.pans[:, frames],
        travel=batch.travel[:, frames],
        copied=[clean.index(batch.copied[copy]) for copy in copies],
    )
