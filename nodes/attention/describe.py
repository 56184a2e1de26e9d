"""What a rollout does to its attention, in words: by its settings and its device alone, so that a
shot says the same wherever its settings come from.
"""

from __future__ import annotations

import torch

from ...attention.ann.choice import AUTO, choose_index
from ...attention.kernels import choice
from ...attention.sparse.settings import SparseCross, SparseSelf
from ...attention.sparse.thresholds import min_keys, min_prompt_tokens
from ...attention.temp_cache.policy import TempCache
from ...model.config import PATCH
from ...samplers.settings import RolloutSettings


def told(settings: RolloutSettings, device: torch.device) -> str:
    """What is merged and sparse in a rollout with these `settings` on `device`, and why; empty
    where nothing is asked for.
    """
    said, cache = list[str](), settings.cache
    self_sparsity, prompt_sparsity = (
        settings.sparsity.self_sparsity,
        settings.sparsity.prompt_sparsity,
    )
    if isinstance(cache, TempCache):
        said.append(describe_temp_cache(cache))
        if cache.merges:
            said.append(_index_told(cache, frame_tokens(settings), device))
    if self_sparsity is not None:
        said.append(describe_block_sparsity(self_sparsity, device))
    if prompt_sparsity is not None:
        said.append(describe_prompt_padding(prompt_sparsity, device))
    return " ".join(said)


def describe_temp_cache(cache: TempCache) -> str:
    """What a TempCache is, one sentence."""
    back = "any distance" if cache.reach_frames is None else f"{cache.reach_frames}"
    keeps = "merges like keys" if cache.merges else "keeps what differs"
    return (
        f"TempCache: entries for {cache.limit} latent frames, {cache.sink_frames} of them a sink, "
        f"reach {back}, {keeps}."
    )


def describe_block_sparsity(self_sparsity: SparseSelf, device: torch.device, when: str = "") -> str:
    """Where self-attention on `device` is sparse, with which kernel, and why; `when` it was asked
    to be, in the node's word.
    """
    _, reason = min_keys(self_sparsity.min_keys, device)
    kernel, why = choice.choose_kernel(self_sparsity.kernel, device)
    return f"Sparse self-attention{f' {when}' if when else ''}: {reason}. Kernel {kernel}: {why}."


def describe_prompt_padding(prompt_sparsity: SparseCross, device: torch.device) -> str:
    """What is done with a prompt's padding on `device`, and why, one sentence."""
    return f"Prompt padding: {min_prompt_tokens(prompt_sparsity.from_tokens, device)[1]}."


def frame_tokens(settings: RolloutSettings) -> int:
    """Tokens of a latent frame."""
    return (settings.rows // PATCH) * (settings.columns // PATCH)


def _index_told(cache: TempCache, tokens: int, device: torch.device) -> str:
    by_itself, why = choose_index(AUTO, cache.slots(tokens, None), device)
    if by_itself != cache.index:
        why = "chosen by name"
    return f"Nearest keys by {cache.index}: {why}."
