"""Batches of first chunks, which have no past to go by.

In long clips one chunk of many is the first, so it is seldom trained where it begins: in noise. A
first chunk decides alone where sun, ball and trees are. Trained too little, it draws two suns.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .batches import Batch, Layout, cut, frame_mask, lay_out
from .recipes import BatchLayout, NoiseRecipe
from .world.dataset import Pool, PoolSpec

CHUNK = 3  # latent frames of a first chunk


@dataclass(frozen=True, slots=True)
class OpeningTask:
    """Batches of `batch` clips of which the first chunk is denoised, at high noise levels."""

    pool: PoolSpec
    batch: int

    def draw(self, pool: Pool, rng: random.Random, recipe: NoiseRecipe) -> Batch:
        """Draw clips, and denoise their first chunk; the clean copy is not looked at."""
        clips = cut(pool, rng.sample(range(self.pool.clips), self.batch), slice(0, CHUNK))
        copied = [*range(CHUNK)]
        mask = frame_mask(CHUNK, copied, CHUNK, CHUNK)
        layout = Layout([*copied, *copied], copied, mask, edges=False)
        shape = BatchLayout(self.batch, CHUNK, CHUNK, CHUNK, memory=True)
        return lay_out(clips, layout, recipe.levels(rng, shape), rng)
