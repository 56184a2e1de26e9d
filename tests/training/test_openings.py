"""Batches of first chunks: denoised alone, together, at high noise."""

from __future__ import annotations

import random

import torch

from longtake.training.openings import CHUNK, OpeningTask
from longtake.training.recipes import DIFFUSION_FORCING
from longtake.training.served import SECOND_TASKS, SECOND_WEIGHTS
from longtake.training.world.clips import random_shot
from longtake.training.world.dataset import Pool, PoolSpec

TASK = OpeningTask(PoolSpec(200, 4, 16, random_shot), 100)
TOKENS = 2


def pool() -> Pool:
    """A pool whose latents tell clip and frame."""
    clips, frames = TASK.pool.clips, TASK.pool.latent_frames
    latents = (10 * torch.arange(clips)[:, None] + torch.arange(frames))[..., None, None, None]
    shape = (clips, frames)
    return Pool(
        latents.expand(-1, -1, 16, 4, 2).half(), torch.ones(clips, 12, 24, dtype=torch.long),
        torch.zeros(shape, dtype=torch.long), torch.zeros(*shape, 4, 2, dtype=torch.bool),
        torch.zeros(shape), torch.zeros(shape),
    )  # fmt: skip


def test_the_first_chunk_is_denoised_without_a_past() -> None:
    torch.manual_seed(0)
    batch = TASK.draw(pool(), random.Random(0), DIFFUSION_FORCING)
    assert batch.positions == [0, 1, 2, 0, 1, 2] and batch.copied == [0, 1, 2]
    noisy = batch.mask[CHUNK * TOKENS :]
    assert not noisy[:, : CHUNK * TOKENS].any() and noisy[:, CHUNK * TOKENS :].all()
    clean = batch.x[:, CHUNK:] - batch.levels[:, CHUNK:, None, None, None] * batch.target
    frames = clean.mean((2, 3, 4)) % 10
    assert torch.allclose(frames.round() % 10, torch.arange(3.0).expand(100, -1))


def test_noise_is_high_and_often_all_there_is() -> None:
    torch.manual_seed(0)
    levels = TASK.draw(pool(), random.Random(0), DIFFUSION_FORCING).levels[:, CHUNK:]
    assert levels.mean() > 0.75
    assert 0.02 < float((levels == 1).all(1).float().mean()) < 0.25


def test_the_second_edition_trains_it() -> None:
    assert isinstance(SECOND_TASKS["opening"], OpeningTask) and SECOND_WEIGHTS["opening"] > 0
    assert sum(SECOND_WEIGHTS.values()) == 1
