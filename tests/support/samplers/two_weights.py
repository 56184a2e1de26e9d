"""Rollouts of two sets of weights without a cache: the history passes anew before every step."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.attention.dense import WholeSequence, attend, block_causal_mask
from longtake.attention.rope import Rotation, rotate, rotation
from longtake.model.dit import PassOptions, WanDiT, predict, project_text
from longtake.samplers.noise import addressed_noise
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.tiny_model import TINY


class BehindHistory:
    """Self-attention of a chunk that comes after un-rotated keys and values of its past."""

    def __init__(self, past: tuple[tuple[Tensor, Tensor], ...], by: Rotation) -> None:
        self.past, self.by = past, by

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend q (1, s, n, d) to the past and to k, v of the chunk."""
        if self.past:
            k, v = (torch.cat(pair, 1) for pair in zip(self.past[layer], (k, v), strict=True))
        at = slice(k.shape[1] - q.shape[1], None)
        own = Rotation(self.by.cos[at], self.by.sin[at])
        return attend(rotate(q, own), rotate(k, self.by), v)


def two_weights_rollout(
    settings: RolloutSettings, writers: tuple[WanDiT, WanDiT], steps: tuple[WanDiT, WanDiT],
    below: float,
) -> Tensor:  # fmt: skip
    """Latents (f, c, h, w) by Euler over causal chunks with the whole past.

    A step at a level below `below` is made by `steps[1]` behind what `writers[1]` makes of the
    past; others by `steps[0]` behind `writers[0]`.
    """
    size, (rows, columns) = settings.schedule.chunk_frames, (settings.rows, settings.columns)
    shape = TINY.out_channels, rows, columns
    done = torch.zeros(0, *shape)
    words = settings.prompts.entries[0].embedding
    while len(done) < (settings.length or 0):
        frames = range(len(done), min(len(done) + size, settings.length or 0))
        x = torch.stack([addressed_noise(settings.seed, f, 0, "start", shape) for f in frames])
        by = rotation(range(frames.stop), rows // 2, columns // 2, TINY.head_dim)
        for now, after in zip(*(settings.schedule.ladder[i:] for i in (0, 1)), strict=False):
            which = int(now < below)
            past = history(writers[which], done, words, size)
            text = project_text(steps[which], words[None, None])
            t = torch.full((1, len(x)), 1000 * now, dtype=torch.float64)
            v = predict(steps[which], x[None], t, text, BehindHistory(past, by)).velocity[0]
            x = x + (after - now) * v
        done = torch.cat([done, x])
    return done


def history(
    tree: WanDiT, clean: Tensor, words: Tensor, size: int
) -> tuple[tuple[Tensor, Tensor], ...]:
    """Keys and values of clean latents (f, c, h, w), each layer, in one block-causal pass."""
    if not len(clean):
        return ()
    rows, columns = clean.shape[-2] // 2, clean.shape[-1] // 2
    mask = block_causal_mask(len(clean), rows * columns, size)
    attention = WholeSequence(rotation(range(len(clean)), rows, columns, TINY.head_dim), mask)
    t = torch.zeros(1, len(clean), dtype=torch.float64)
    text = project_text(tree, words[None, None])
    return predict(tree, clean[None], t, text, attention, PassOptions(keep=True)).keys_values
