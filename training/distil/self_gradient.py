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

from ..batches import Batch
from .consistency import Velocity, clean_picture, history_frames, stepped

LOWEST, HIGHEST = 0.02, 0.98
"""The levels at which pictures are judged; a score beyond them says little (Self-Forcing)."""


@torch.no_grad()
def self_rollout(student: Velocity, batch: Batch, ladder: Tensor, steps: int) -> Batch:
    """The clips that the student makes of a batch of noise, and what it made them from.

    The noisy copies begin as noise at the top of the `ladder` and take `steps` Euler steps down;
    what the student then sees in them becomes the clean copies. All chunks are made at once, again
    and again: a chunk reads only earlier ones, so that the first is final after one time, and all
    are after as many times as there are chunks. Frames without a noisy copy stay the truth.
    """
    clips = batch
    for _ in range(chunks_of(batch)):
        past = clips.x[:, : history_frames(batch)]
        clips = replace(batch, x=torch.cat([past, noise_of(batch)], 1))
        for _ in range(steps):
            clips = stepped(clips, student, ladder)
        clips = with_clean_copies(clips, clean_picture(student, clips))
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


def with_clean_copies(batch: Batch, pictures: Tensor) -> Batch:
    """The batch whose clean copies of the denoised frames are `pictures` (b, m, c, h, w)."""
    x = batch.x.clone()
    x[:, batch.copied] = pictures
    return replace(batch, x=x)


def chunks_of(batch: Batch) -> int:
    """How many chunks of noisy copies a batch has: copies of a chunk see each other."""
    first = history_frames(batch)
    tokens = len(batch.mask) // batch.x.shape[1]
    sees = batch.mask[first * tokens :: tokens, first * tokens :: tokens]
    return len(sees.unique(dim=0))
