"""Guided rollouts of a tiny model: by the engine, and without a cache."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.attention.cache.policy import FullHistory
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import Guidance
from longtake.samplers.loop import Chunk, generate
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.brute_force import Given, Guided, Terms, Way, rollout
from longtake.tests.support.tiny_model import CHUNKS, TINY, random_dit, settings, timeline

DIT = random_dit()
MODEL = local_denoiser(DIT, TINY)
PROMPTS = timeline(0, 3, 9)
LENGTH, DTYPE = 12, torch.float32
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def ours(guidance: Guidance, **changes: object) -> Tensor:
    """The engine's rollout."""
    return joined(list(generate(of(guidance, **changes), MODEL)))


def of(guidance: Guidance, **changes: object) -> RolloutSettings:
    """Settings of the reference's rollout."""
    chosen = {"prompts": PROMPTS, "cache": FullHistory(), "length": LENGTH, **changes}
    return settings(guidance=guidance, **chosen)  # type: ignore[arg-type]


def joined(chunks: list[Chunk]) -> Tensor:
    """All latent frames."""
    return torch.cat([chunk.latents for chunk in chunks])


def reference(terms: Terms, given: Given | None = None) -> Tensor:
    """The same without a cache."""
    return rollout(DIT, PROMPTS, Way(CHUNKS.ladder), Guided(terms), LENGTH, given or {})
