"""A small random Wan-family model and settings that fit it, for tests of everything around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from longtake.model.action_sizes import ActionSizes
from longtake.model.config import Camera, DiTConfig
from longtake.model.dit import WanDiT
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import NoiseSchedule, causal_chunks
from longtake.samplers.settings import RolloutSettings

TINY = DiTConfig(
    dim=24, ffn_dim=32, num_heads=2, num_layers=2, text_dim=8, in_channels=4, out_channels=4
)
TEXT_LEN = 5
KEYS = ActionSizes(blocks=1, keys=4, embed=6, width=128)
CHUNKS = causal_chunks(flow_ladder(2, 3.0), 3)


def with_camera(camera: Camera, config: DiTConfig = TINY) -> DiTConfig:
    """The sizes of a model that takes a camera; one of its blocks has layers for keys."""
    return replace(config, camera=camera, action=KEYS if camera == "keys" else None)


def random_dit(config: DiTConfig = TINY, seed: int = 0) -> WanDiT:
    """Every parameter random, modulations and norms too, and outputs of the size of the inputs."""
    dit = WanDiT(config)
    randomise(dit, seed)
    return dit.eval().requires_grad_(False)


@torch.no_grad()
def randomise(module: nn.Module, seed: int) -> None:
    """Fill all parameters: matrices keep the variance of what they multiply, norms are near 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("modulation"):
            parameter.copy_(0.5 * noise)
        elif parameter.ndim > 1:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
        else:
            parameter.copy_(("norm" in name and name.endswith("weight")) + 0.2 * noise)


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Seeded standard normal values."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def embedding(seed: int, words: int = 3, text_dim: int = TINY.text_dim) -> Tensor:
    """A prompt of `words` tokens, padded with zeros to TEXT_LEN."""
    padded = torch.zeros(TEXT_LEN, text_dim)
    padded[:words] = randn(words, text_dim, seed=seed)
    return padded


def timeline(*starts: int) -> PromptTimeline:
    """A different prompt from each of `starts` latent frames on."""
    entries = (TimedPrompt(start, embedding(10 + start), f"prompt {start}") for start in starts)
    return PromptTimeline(tuple(entries), torch.zeros(TEXT_LEN, TINY.text_dim))


def settings(
    schedule: NoiseSchedule = CHUNKS, length: int | None = 7, **changes: Any
) -> RolloutSettings:
    """A 4 x 6 latent rollout of two prompts."""
    chosen = {"prompts": timeline(0, 3), "rows": 4, "columns": 6, "seed": 5, **changes}
    return RolloutSettings(schedule=schedule, length=length, **chosen)
