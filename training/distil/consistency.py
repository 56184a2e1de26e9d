"""Consistency distillation of a guided, causal teacher (Causal-Forcing, its second stage).

The teacher, frozen, takes one guided Euler step from a noised truth at level t to the next lower
level u of a ladder, behind the same history:

    x_u = x_t + (u - t) v_teacher(x_t, t)

From both points the student must see the same clean picture:

    loss = |x0(x_t, t) - stop_gradient x0(x_u, u)|^2,    x0(x, t) = x - t v_student(x, t)

At level 0 that picture is x itself, so what the student sees from pure noise becomes where the
teacher would arrive after all of its steps. Guidance is within the teacher's velocity: the student
needs none. The second point is judged by the student's current weights (rCM's dCM, arXiv
2510.08431), not by their running mean.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..batches import Batch
from ..recipes import BatchLayout, NoiseRecipe, history_levels

Velocity = Callable[[Batch], Tensor]
"""Gives the velocity of a batch's noisy copies (b, m, c, h, w)."""


def ladder_of(count: int, shift: float) -> Tensor:
    """The `count` + 1 levels of a shifted flow schedule, from 1 down to 0."""
    even = torch.linspace(1, 0, count + 1, dtype=torch.float64)
    return (shift * even / (1 + (shift - 1) * even)).float()


def recipe_on(ladder: Tensor) -> NoiseRecipe:
    """Histories as Diffusion Forcing has them; each noisy chunk is on one level of `ladder`."""

    def levels(rng: random.Random, layout: BatchLayout) -> Tensor:
        history = history_levels(rng, layout.batch, layout.context, memory=layout.memory)
        chunks = layout.noisy // layout.chunk
        level = ladder[torch.randint(len(ladder) - 1, (layout.batch, chunks))]
        return torch.cat([history, level.repeat_interleave(layout.chunk, 1)], 1)

    return NoiseRecipe((1, 3, 3), levels)


@dataclass(frozen=True, slots=True)
class Teacher:
    """A velocity under classifier-free guidance at `scale`.

    The history keeps its captions in both branches, as in a rollout, whose one cache serves both.
    """

    velocity: Velocity
    scale: float

    def __call__(self, batch: Batch) -> Tensor:
        if self.scale == 1:
            return self.velocity(batch)
        without = self.velocity(without_captions(batch))
        return without + self.scale * (self.velocity(batch) - without)


def without_captions(batch: Batch) -> Batch:
    """The batch whose noisy copies have an empty caption."""
    empty = torch.zeros_like(batch.captions[:, :1])
    which = batch.which.clone()
    which[:, history_frames(batch) :] = batch.captions.shape[1]
    return replace(batch, captions=torch.cat([batch.captions, empty], 1), which=which)


def consistency_loss(student: Velocity, teacher: Velocity, batch: Batch, ladder: Tensor) -> Tensor:
    """The squared distance of two neighbouring clean pictures, weighted by cell."""
    with torch.no_grad():
        target = clean_picture(student, stepped(batch, teacher, ladder))
    error = clean_picture(student, batch) - target
    return (error.square() * batch.weight[:, :, None]).mean()


def clean_picture(student: Velocity, batch: Batch) -> Tensor:
    """The clean latents that the student sees in the noisy copies (b, m, c, h, w)."""
    context = history_frames(batch)
    level = batch.levels[:, context:, None, None, None]
    return batch.x[:, context:] - level * student(batch)


def stepped(batch: Batch, velocity: Velocity, ladder: Tensor) -> Batch:
    """The batch after one Euler step of its noisy copies, down to the next level of `ladder`."""
    context = history_frames(batch)
    level = batch.levels[:, context:]
    lower = next_level(level, ladder)
    step = (lower - level)[:, :, None, None, None]
    noisy = batch.x[:, context:] + step * velocity(batch)
    return replace(
        batch,
        x=torch.cat([batch.x[:, :context], noisy], 1),
        levels=torch.cat([batch.levels[:, :context], lower], 1),
    )


def next_level(level: Tensor, ladder: Tensor) -> Tensor:
    """The next lower level of `ladder` for each level on it; 0 stays."""
    rung = (level[..., None] - ladder).abs().argmin(-1)
    return ladder[(rung + 1).clamp(max=len(ladder) - 1)]


def history_frames(batch: Batch) -> int:
    """How many frames of a batch are its clean history, before the noisy copies."""
    return batch.x.shape[1] - len(batch.copied)
