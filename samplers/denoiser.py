"""What the sampling loop needs of a model, wherever the model lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..attention.history import HistoryCache
from ..model.config import DiTConfig
from ..model.dit import Cast


def _nothing() -> None:
    """The check of a host that cannot interrupt, and the release of one that needs no memory."""


def _not_managed(cache: HistoryCache) -> None:
    """A host that does not look after KV caches."""


@dataclass(frozen=True, slots=True)
class Denoiser:
    """A model to evaluate.

    `claim(kv_bytes)` is called at the start of every chunk and returns the module tree, loaded and
    with this model's own patches applied; `kv_bytes` is what will be allocated next, so 0 once the
    KV cache is there. `check` is called before every evaluation and raises when the host wants to
    stop. `hold` is told of every KV cache once it is allocated; the host may move it away between
    chunks, and has it back by the next claim. `release` asks it to do so now.
    `scale_loras(factor)` multiplies the strength of the model's LoRAs from the next claim on; None
    where it has none.
    """

    claim: Callable[[int], Any]
    config: DiTConfig
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    cast: Cast | None = None
    check: Callable[[], None] = _nothing
    hold: Callable[[HistoryCache], None] = _not_managed
    release: Callable[[], None] = _nothing
    scale_loras: Callable[[float], None] | None = None


def local_denoiser(tree: Any, config: DiTConfig) -> Denoiser:
    """A model that is simply there: our own tree on the CPU."""
    return Denoiser(claim=lambda _: tree, config=config)
