"""Batches with a memory as it is served: a run of past frames, fetched again, and the newest ones.

The frames that a chunk reads have the positions that serving gives them, by rank: the run comes
just before the newest frames, however long ago it was. Only three frames before the run see that
the run had a past of its own. The clean copy of the newest frames sees the run in half of the
batches, as commits do that see what the memory holds.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .batches import DRIVEN_TASKS, Batch, BatchTask, Layout, cut, lay_out, with_clips
from .openings import OpeningTask
from .recipes import BatchLayout, NoiseRecipe
from .world.clips import random_shot
from .world.dataset import Pool, PoolSpec
from .world.returns import BEFORE, FIRST, NEWEST, RUN, SPAN, ReturnSpec


@dataclass(frozen=True, slots=True)
class ReturnTask:
    """Batches of `batch` clips whose camera comes back to what their run shows."""

    pool: ReturnSpec
    batch: int

    def draw(self, pool: Pool, rng: random.Random, recipe: NoiseRecipe) -> Batch:
        """Draw clips, and denoise the three chunks at their end."""
        chunk = rng.choice((1, 3, 3))
        layout = served_layout(chunk, commits_see_run=rng.random() < 0.5)
        clips = cut(pool, rng.sample(range(self.pool.clips), self.batch), slice(0, SPAN))
        shape = BatchLayout(self.batch, SPAN, len(layout.copied), chunk, memory=True)
        return lay_out(clips, layout, recipe.levels(rng, shape), rng)


def served_layout(chunk: int, *, commits_see_run: bool) -> Layout:
    """The layout of SPAN clean frames of which those from FIRST on are denoised, in chunks."""
    copied = [*range(FIRST, SPAN)]
    mask = served_mask(chunk, commits_see_run=commits_see_run)
    return Layout([*range(SPAN), *copied], copied, mask, edges=True)


def served_mask(chunk: int, *, commits_see_run: bool) -> Tensor:
    """Which frame sees which (f, f) bool: clean frames, then the noisy copies."""
    frame = torch.tensor([*range(SPAN), *range(FIRST, SPAN)])
    is_noisy = torch.arange(len(frame)) >= SPAN
    is_run = (frame >= BEFORE) & (frame < BEFORE + RUN)
    is_past = frame < BEFORE + RUN
    start = torch.where(is_past, 0, BEFORE + RUN) + _within(frame, is_past) // chunk * chunk
    same_piece = is_past[:, None] == is_past[None]
    earlier = (frame[None] < start[:, None]) & (frame[None] >= start[:, None] - NEWEST)
    of_run = ~is_past[:, None] & is_run[None]
    if not commits_see_run:
        of_run &= is_noisy[:, None]
    own = (start[:, None] == start[None]) & (is_noisy[:, None] == is_noisy[None])
    return (same_piece & earlier | of_run) & ~is_noisy[None] | own


def _within(frame: Tensor, is_past: Tensor) -> Tensor:
    """The number of each frame in its piece of the clip."""
    return torch.where(is_past, frame, frame - BEFORE - RUN)


SECOND_POOLS = {"narrow": 100, "wide": 200, "recall": 100, "memory": 40}
SECOND_TASKS: Mapping[str, BatchTask] = {
    **{n: with_clips(DRIVEN_TASKS[n], clips) for n, clips in SECOND_POOLS.items()},
    "return": ReturnTask(ReturnSpec(320, 96), 4),
    "opening": OpeningTask(PoolSpec(400, 4, 96, random_shot), 32),
}
"""The tasks of the demo's second edition. Pools are small: filling them takes minutes."""

SECOND_WEIGHTS: Mapping[str, float] = {
    "narrow": 0.04, "wide": 0.25, "recall": 0.04, "memory": 0.02, "return": 0.35, "opening": 0.3,
}  # fmt: skip
"""How often each of them is drawn."""


def second_task_at(share: float, rng: random.Random) -> str:
    """Draw the task for a step of the second edition, whatever the `share` of the run."""
    return rng.choices([*SECOND_WEIGHTS], [*SECOND_WEIGHTS.values()])[0]
