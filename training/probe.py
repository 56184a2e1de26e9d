"""The held-out loss under several windows, which shows what a memory of that length is worth."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..model.text import TextEncoder
from ..model.vae.tiny import TinyVAE
from .batches import TASKS, Batch, Task, frame_mask, make_batch, token_mask
from .world.dataset import ClipMaker

HELD_OUT_SEED = 10_000_019
PROBE = replace(
    TASKS["memory narrow"], pool=replace(TASKS["memory narrow"].pool, clips=8), batch=8, noisy=12
)
PROBE_WINDOWS = (8, 16, 32, 63)


def memory_probe(vae: TinyVAE, text: TextEncoder, task: Task) -> list[tuple[int, Batch]]:
    """Return one held-out batch of camera reversals per window, with equal noise and targets."""
    rng = random.Random(HELD_OUT_SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(HELD_OUT_SEED)
        batch = make_batch(ClipMaker(vae, text, rng).fill(task.pool), task, rng)
    noisy = batch.positions[task.context :]
    masks = [(window, frame_mask(task.context, noisy, 1, window)) for window in PROBE_WINDOWS]
    return [(window, replace(batch, mask=token_mask(mask, batch.x))) for window, mask in masks]


@torch.no_grad()
def losses_by_window(loss_of: Callable[[Batch], Tensor], probe: list[tuple[int, Batch]]) -> str:
    """Return the loss under each window; a fall from first to last shows memory."""
    return " ".join(f"{window}: {loss_of(batch):.4f}" for window, batch in probe)
