"""The keys of the prompt that a chunk was generated with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class PromptKeys:
    """For every layer, the mean (n, d) of a prompt's cross-attention keys, float32.

    `row` is the cache row whose keys they are compared with.
    """

    means: tuple[Tensor, ...]
    row: int = 0
