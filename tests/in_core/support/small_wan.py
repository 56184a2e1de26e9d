"""A small Wan model in the core, with random weights: plain, cast on use, or with a LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.model.checkpoint import open_checkpoint
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.tests.support.model.family_files import SMALL, state
from longtake.tests.support.tiny_model import randn

TIMELINE = PromptTimeline(
    (TimedPrompt(0, randn(9, SMALL.text_dim, seed=4), "a"),), torch.zeros(9, SMALL.text_dim)
)


def plain(folder: Path, dtype: torch.dtype | None = None) -> Any:
    """The core's MODEL of small random weights, kept in a dtype."""
    from longtake.nodes import host

    save_file(state(), folder / "wan.safetensors")
    checkpoint = open_checkpoint(folder / "wan.safetensors")
    return host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), dtype)


def with_lora(folder: Path) -> Any:
    """The same with a LoRA on a layer of each kind."""
    from longtake.nodes import host

    model, rank = plain(folder), 2
    parts: dict[tuple[str, str], Tensor] = {}
    for layer in ("blocks.0.self_attn.q", "blocks.1.ffn.0"):
        rows, columns = host.layer_shapes(model)[layer]
        parts[layer, "lora_up.weight"] = randn(rows, rank, seed=1)
        parts[layer, "lora_down.weight"] = randn(rank, columns, seed=2)
    return host.with_lora(model, parts, 0.8)
