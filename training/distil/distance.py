"""How far a student's pictures are from its teacher's, from the same noise and history."""

from __future__ import annotations

import random
from dataclasses import replace

import torch
from torch import Tensor

from ...model.preset import DEMO
from ...model.text import TextEncoder
from ...model.vae.tiny import TinyVAE
from ..batches import Batch, Task, make_batch
from ..recipes import NoiseRecipe, clean_then_noise
from ..world.dataset import ClipMaker
from .consistency import Velocity, history_frames, ladder_of, stepped

HELD_OUT_SEED = 40_000_001
TEACHER_STEPS = 8


def held_out_batch(vae: TinyVAE, text: TextEncoder, task: Task) -> Batch:
    """A batch of clips of no run: a clean history, and pure noise in chunks."""
    rng = random.Random(HELD_OUT_SEED)
    few = replace(task, pool=replace(task.pool, clips=task.batch))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(HELD_OUT_SEED)
        pool = ClipMaker(vae, text, rng).fill(few.pool)
        return make_batch(pool, few, rng, NoiseRecipe((3,), clean_then_noise))


@torch.no_grad()
def distances(student: Velocity, teacher: Velocity, batch: Batch) -> tuple[float, float]:
    """Root mean square differences of latents: the student's after one pass, and after two.

    The teacher takes TEACHER_STEPS from the same noise.
    """
    goal = arrival(teacher, batch, ladder_of(TEACHER_STEPS, DEMO.shift))
    ladders = (ladder_of(steps, DEMO.shift) for steps in (1, 2))
    one, two = ((arrival(student, batch, ladder) - goal).square().mean() for ladder in ladders)
    return float(one.sqrt()), float(two.sqrt())


def arrival(velocity: Velocity, batch: Batch, ladder: Tensor) -> Tensor:
    """Where Euler steps down the `ladder` take the noisy copies (b, m, c, h, w), from its top."""
    levels = batch.levels.clone()
    levels[:, history_frames(batch) :] = ladder[0]
    batch = replace(batch, levels=levels)
    for _ in ladder[1:]:
        batch = stepped(batch, velocity, ladder)
    return batch.x[:, history_frames(batch) :]
