"""Batches of clips that go on: all chunks but the first are denoised, behind the newest frames.

A first chunk has no newest frames; its batches are those of `openings.py`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .batches import DRIVEN_TASKS, Batch, BatchTask, Layout, Task, cut, frame_mask, lay_out
from .recipes import BatchLayout, NoiseRecipe
from .served import SECOND_TASKS
from .world.dataset import Pool, PoolSpec
from .world.returns import NEWEST


@dataclass(frozen=True, slots=True)
class ContinuedTask:
    """Batches of `batch` clips of `frames` latent frames."""

    pool: PoolSpec
    batch: int
    frames: int = 15

    def draw(self, pool: Pool, rng: random.Random, recipe: NoiseRecipe) -> Batch:
        """Draw clips, and denoise them from their second chunk on."""
        chunk = rng.choice(recipe.chunk_sizes or (1,))
        start = rng.randrange(self.pool.latent_frames - self.frames + 1)
        rows = rng.sample(range(self.pool.clips), self.batch)
        clips = cut(pool, rows, slice(start, start + self.frames))
        copied = [*range(chunk, self.frames)]
        mask = frame_mask(self.frames, copied, chunk, NEWEST)
        layout = Layout([*range(self.frames), *copied], copied, mask, edges=False)
        shape = BatchLayout(self.batch, self.frames, len(copied), chunk, memory=False)
        return lay_out(clips, layout, recipe.levels(rng, shape), rng)


def continued(task: Task, clips: int) -> ContinuedTask:
    """The task with a pool of so many clips that goes on."""
    return ContinuedTask(replace(task.pool, clips=clips), task.batch)


CONTINUED_TASKS: Mapping[str, BatchTask] = {
    "narrow": continued(DRIVEN_TASKS["narrow"], 100),
    "wide": continued(DRIVEN_TASKS["wide"], 200),
    **{name: SECOND_TASKS[name] for name in ("return", "opening")},
}
"""The tasks of a student of the demo's second edition."""
