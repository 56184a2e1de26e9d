"""Describes a rollout's attention from its settings and device alone.

The same shot therefore reads the same wherever its settings come from.
"""

from __future__ import annotations

import torch

from ...attention.kernels import choice
from ...attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from ...attention.sparse.thresholds import min_keys, min_prompt_tokens
from ...attention.temp_cache.policy import TempCache
from ...samplers.settings import RolloutSettings


def describe_attention(settings: RolloutSettings, device: torch.device) -> str:
    """What is merged and sparse in a rollout on `device`, and why; empty if nothing is."""
    parts, cache = list[str](), settings.cache
    if isinstance(cache, TempCache):
        parts.append(describe_temp_cache(cache))
        if cache.merges:
            parts.append(f"Nearest keys by {cache.index}.")
    return " ".join(filter(None, [*parts, describe_sparsity(settings.sparsity, device)]))


def describe_sparsity(sparsity: Sparsity, device: torch.device, when: str = "") -> str:
    """Where attention on `device` is sparse, and why; empty if it nowhere is.

    `when` is the node's choice for self-attention.
    """
    parts = list[str]()
    if sparsity.self_sparsity is not None:
        parts.append(describe_block_sparsity(sparsity.self_sparsity, device, when))
    if sparsity.prompt_sparsity is not None:
        parts.append(describe_prompt_padding(sparsity.prompt_sparsity, device))
    return " ".join(parts)


def describe_temp_cache(cache: TempCache) -> str:
    back = "any distance" if cache.reach_frames is None else f"{cache.reach_frames}"
    keeps = "merges like keys" if cache.merges else "keeps what differs"
    return (
        f"TempCache: entries for {cache.limit} latent frames, {cache.sink_frames} of them a sink, "
        f"reach {back}, {keeps}."
    )


def describe_block_sparsity(self_sparsity: SparseSelf, device: torch.device, when: str = "") -> str:
    """Where self-attention on `device` is sparse, with which kernel, and why.

    `when` is the node's choice.
    """
    _, reason = min_keys(self_sparsity.min_keys, device)
    kernel, why = choice.choose_kernel(self_sparsity.kernel, device)
    return f"Sparse self-attention{f' {when}' if when else ''}: {reason}. Kernel {kernel}: {why}."


def describe_prompt_padding(prompt_sparsity: SparseCross, device: torch.device) -> str:
    """How a prompt's padding is attended to on `device`, and why."""
    return f"Prompt padding: {min_prompt_tokens(prompt_sparsity.from_tokens, device)[1]}."
