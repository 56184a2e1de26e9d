"""What a cache is told of the prompt that a chunk was made to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class PromptKeys:
    """Of every layer, the mean (n, d) of a prompt's cross-attention keys, float32; `row` is the row
    of the cache whose keys they are compared with.
    """

    means: tuple[Tensor, ...]
    row: int = 0
