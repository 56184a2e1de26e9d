"""Training batches for the DiT: samples, attention masks and noise levels.

A sample is [clean copy | noisy copy] of a clip's latents under one mask. A noisy chunk sees itself
and the clean history in its window. The clean copy is block-causal with the same window, exactly
like the commit passes that fill a cache.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ..model.config import PATCH, DiTConfig
from .recipes import DIFFUSION_FORCING, BatchLayout, NoiseRecipe
from .world.clips import perhaps_driven, quick_reversals, random_shot, reversal_shot
from .world.dataset import ClipMaker, ClipSpec, Pool, PoolSpec

TEXT_DROPOUT = 0.1
ENTERING_COLUMNS, ENTERING_WEIGHT = 2, 6.0  # latent columns that the camera turns to; their weight
BALL_WEIGHT = 5.0  # weight of latent cells with the ball, which is small, fast and easily lost


@dataclass(frozen=True, slots=True)
class Task:
    """One kind of batch: `batch` clips of `context` latent frames, of which `noisy` are denoised.

    `windows` lists the history lengths, in latent frames, from which each batch draws its limit.
    """

    pool: PoolSpec
    batch: int
    context: int
    noisy: int
    windows: tuple[int, ...]

    def draw(self, pool: Pool, rng: random.Random, recipe: NoiseRecipe) -> Batch:
        """Draw a batch from the task's pool."""
        return make_batch(pool, self, rng, recipe)


def with_clips(task: Task, clips: int) -> Task:
    """The same task with a pool of so many clips."""
    return replace(task, pool=replace(task.pool, clips=clips))


TASKS: Mapping[str, Task] = {
    "narrow": Task(PoolSpec(800, 20, 64, random_shot), 10, 15, 15, (8, 12, 15)),
    "wide": Task(PoolSpec(600, 20, 96, random_shot), 7, 15, 15, (8, 12, 15)),
    "recall": Task(PoolSpec(320, 48, 96, quick_reversals), 4, 33, 12, (33,)),
    "memory": Task(PoolSpec(160, 80, 96, reversal_shot), 2, 63, 15, (32, 48, 63)),
    "memory narrow": Task(PoolSpec(160, 80, 64, reversal_shot), 3, 63, 15, (32, 48, 63)),
}


DRIVEN_TASKS: Mapping[str, Task] = {
    name: replace(task, pool=replace(task.pool, script=perhaps_driven(task.pool.script)))
    for name, task in TASKS.items()
}
"""The same tasks, with half of the clips driven by keys."""


def tasks_of(config: DiTConfig) -> Mapping[str, Task]:
    """The tasks of a model of these sizes; a camera learns to obey keys."""
    return TASKS if config.camera == "none" else DRIVEN_TASKS


def task_at(share: float, rng: random.Random) -> str:
    """Draw the task for a step at `share` of the run: narrow pictures first, then width and memory.

    Recall trains memory over short distances, so that a batch contains much of it.
    """
    weights = (0.8, 0.0, 0.0, 0.0, 0.2) if share < 0.3 else (0.12, 0.33, 0.4, 0.1, 0.05)
    return rng.choices(list(TASKS), weights)[0]


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs and target of one forward pass. f counts the clean, then the m noisy latent frames.

    `x` (b, f, c, h, w): latents. `levels` (b, f): noise levels. `target` (b, m, c, h, w): velocity
    of the noisy copy. `captions` (b, k, l): word ids. `which` (b, f): caption index of each frame.
    `positions` (f,): positions in the clip. `mask` (s, s): attention mask over tokens. `weight` (b,
    m, h, w): loss weights. `pans` (b, f): the camera's pan at each frame, -1 left to 1 right.
    `travel` (b, f): where the camera is, in latent frames at full pan. `copied`: the clean frame of
    each noisy one.
    """

    x: Tensor
    levels: Tensor
    target: Tensor
    captions: Tensor
    which: Tensor
    positions: list[int]
    mask: Tensor
    weight: Tensor
    pans: Tensor
    travel: Tensor
    copied: list[int]


class BatchTask(Protocol):
    """A kind of batch that a feed draws from a pool of its own."""

    @property
    def pool(self) -> ClipSpec:
        """What the pool is made of."""

    def draw(self, pool: Pool, rng: random.Random, recipe: NoiseRecipe) -> Batch:
        """Draw a batch from the pool."""


class BatchFeed:
    """Draw batches of any task. A task's pool is built on first use and partly renewed later."""

    def __init__(
        self,
        maker: ClipMaker,
        tasks: Mapping[str, BatchTask],
        recipe: NoiseRecipe = DIFFUSION_FORCING,
    ) -> None:
        self.maker = maker
        self.tasks = tasks
        self.recipe = recipe
        self.pools: dict[str, Pool] = {}

    def draw(self, name: str) -> Batch:
        """Draw a batch of task `name`. About a tenth of a run's time goes into new clips."""
        task, rng = self.tasks[name], self.maker.rng
        if name not in self.pools:
            self.pools[name] = self.maker.fill(task.pool)
        if rng.random() < 8 / task.pool.latent_frames:
            self.maker.refresh(self.pools[name], task.pool, 1)
        return task.draw(self.pools[name], rng, self.recipe)


def make_batch(
    pool: Pool, task: Task, rng: random.Random, recipe: NoiseRecipe = DIFFUSION_FORCING
) -> Batch:
    """Draw clips, cut them, and lay out clean and noisy copies."""
    chunk = rng.choice(recipe.chunk_sizes or (task.noisy,))
    window = rng.choice(task.windows)
    opening = rng.random() < 0.5 or chunk == task.context  # a single chunk is the opening
    noisy = noisy_frames(task, chunk, rng, opening=opening)
    rows = rng.sample(range(task.pool.clips), task.batch)
    start = 0 if opening else rng.randrange(1, task.pool.latent_frames - task.context + 1)
    clips = cut(pool, rows, slice(start, start + task.context))
    layout = Layout(
        [*range(task.context), *noisy],
        noisy,
        frame_mask(task.context, noisy, chunk, window),
        edges=task.noisy < task.context,
    )
    shape = BatchLayout(task.batch, task.context, len(noisy), chunk, memory=layout.edges)
    return lay_out(clips, layout, recipe.levels(rng, shape), rng)


@dataclass(frozen=True, slots=True)
class Layout:
    """The frames of a batch: clean ones, then a noisy copy of each clean frame in `copied`.

    `positions` are the places in time of all of them, `mask` (f, f) tells which frame sees which.
    `edges`: scenery that enters at an edge counts more.
    """

    positions: list[int]
    copied: list[int]
    mask: Tensor
    edges: bool


def cut(pool: Pool, rows: Sequence[int], frames: slice) -> Pool:
    """The latent `frames` of some clips of a pool, with all captions of these clips."""
    index = torch.tensor(rows)
    return Pool(
        pool.latents[index, frames].float(),
        pool.captions[index],
        *(column[index, frames] for column in (pool.which, pool.ball, pool.pans, pool.travel)),
    )


def lay_out(clips: Pool, layout: Layout, levels: Tensor, rng: random.Random) -> Batch:
    """Add noise at `levels` (b, f) to the clean frames of `clips` and to their copies."""
    clean, copied = clips.latents, layout.copied
    latents = torch.cat([clean, clean[:, copied]], 1)
    noise = torch.randn_like(latents)
    level = levels[:, :, None, None, None]
    keep = torch.tensor([[[0 if rng.random() < TEXT_DROPOUT else 1]] for _ in clean])

    def with_copies(column: Tensor) -> Tensor:
        return torch.cat([column, column[:, copied]], 1)

    return Batch(
        x=(1 - level) * latents + level * noise,
        levels=levels,
        target=(noise - latents)[:, clean.shape[1] :],
        captions=clips.captions * keep,
        which=with_copies(clips.which),
        positions=layout.positions,
        mask=token_mask(layout.mask, clean),
        weight=cell_weight(clips.ball[:, copied], clips.pans[:, copied] if layout.edges else None),
        pans=with_copies(clips.pans),
        travel=with_copies(clips.travel),
        copied=copied,
    )


def cell_weight(ball: Tensor, pans: Tensor | None) -> Tensor:
    """Return each latent cell's loss weight, mean 1. `ball` marks the ball; both are (b, m, h, w).

    With the camera's `pans` (b, m), scenery that enters at the side it turns to counts more: with a
    long history that scenery was seen before.
    """
    weight = 1 + (BALL_WEIGHT - 1) * ball
    if pans is not None:
        left, right = (torch.where(to_side, ENTERING_WEIGHT, 1.0)[..., None, None]
                       for to_side in (pans < 0, pans > 0))  # fmt: skip
        weight[..., :ENTERING_COLUMNS] *= left
        weight[..., -ENTERING_COLUMNS:] *= right
    return weight / weight.mean()


def frame_mask(context: int, noisy: Sequence[int], chunk: int, window: int) -> Tensor:
    """Return the attention mask among [clean frames 0..context | noisy copies of frames `noisy`].

    (f, f) bool, True where the row's frame may look at the column's frame.
    """
    frame = torch.tensor([*range(context), *noisy])
    start = frame // chunk * chunk  # first frame of each frame's chunk
    is_noisy = torch.arange(len(frame)) >= context
    in_window = (frame[None] < start[:, None]) & (frame[None] >= start[:, None] - window)
    same_chunk = frame[None] // chunk == frame[:, None] // chunk
    same_copy = is_noisy[None] == is_noisy[:, None]
    return in_window & ~is_noisy[None] | same_chunk & same_copy


def token_mask(frames: Tensor, latents: Tensor) -> Tensor:
    """Expand a mask over frames (f, f) to the tokens (s, s) of `latents` (b, f, c, h, w)."""
    tokens = latents.shape[-1] * latents.shape[-2] // PATCH**2
    return frames.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)


def noisy_frames(task: Task, chunk: int, rng: random.Random, *, opening: bool) -> list[int]:
    """Choose the latent frames with a noisy copy: all, or whole chunks of the last three quarters.

    A cut that is not the opening of its clip has no noisy first chunk. Without a history, the model
    only ever generates a clip's true first latent, which stands for one frame.
    """
    chunks = task.context // chunk
    if task.noisy >= task.context:
        return list(range(0 if opening else chunk, chunks * chunk))
    picked = sorted(rng.sample(range(chunks // 4, chunks), task.noisy // chunk))
    return [c * chunk + i for c in picked for i in range(chunk)]
