"""What the sampling loop needs of a model, wherever the model lives."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..attention.history import HistoryCache
from ..model.arithmetic.compiled import GraphCompiler
from ..model.arithmetic.layers import TORCH_LAYERS, Layers
from ..model.arithmetic.modulation import PLAIN_ARITHMETIC, Arithmetic
from ..model.forward import Forward, ModelConfig, forward_of
from ..model.vace.module import VaceModule


class ModelHost(Protocol):
    """Owns a model's weights and decides where weights and KV caches lie.

    The loop claims the model at the start of every chunk. Between two claims the host may move
    weights and registered caches away.
    """

    def claim(self, kv_bytes: int) -> Any:
        """Load the model with its own patches and return its module tree.

        `kv_bytes` is what the caller allocates next: 0 once the KV caches exist.
        """

    def cast(self, parameter: Tensor) -> Tensor:
        """Return a bare parameter of the tree, ready for computing."""

    def check_interrupted(self) -> None:
        """Raise if the host wants to stop; called before every evaluation."""

    def register_cache(self, cache: HistoryCache) -> None:
        """Take a newly allocated KV cache into the host's memory management."""

    def offload_caches(self) -> None:
        """Free the accelerator memory of all registered caches until the next claim."""

    def around_chunk(self) -> AbstractContextManager[object]:
        """What the host needs around the making of a chunk."""

    @property
    def scale_loras(self) -> Callable[[float], None] | None:
        """Multiply the strength of the model's LoRAs from the next claim on; None without LoRAs."""


class LocalHost:
    """Holds a module tree that is always loaded: headless runs, training and tests."""

    scale_loras: Callable[[float], None] | None = None

    def __init__(self, tree: Any) -> None:
        self._tree = tree

    def claim(self, kv_bytes: int) -> Any:
        return self._tree

    def cast(self, parameter: Tensor) -> Tensor:
        """Return the parameter unchanged."""
        return parameter

    def check_interrupted(self) -> None:
        """Let every evaluation run."""

    def register_cache(self, cache: HistoryCache) -> None:
        """Leave the cache where it is."""

    def offload_caches(self) -> None:
        """Leave all caches where they are."""

    def around_chunk(self) -> AbstractContextManager[object]:
        """Make chunks as they are: nothing is needed."""
        return nullcontext()


@dataclass(frozen=True, slots=True)
class LowNoise:
    """The steps at timesteps below 1000 times `below` (0 to 1).

    These weights read a history of their own, which they write too (Wan 2.2's experts).
    """

    below: float


@dataclass(frozen=True, slots=True)
class Commits:
    """The passes that write the one history, which the steps of the first weights read."""


@dataclass(frozen=True, slots=True)
class SecondWeights:
    """Further weights of a model, and the passes that they make in place of the first ones."""

    model: Denoiser
    passes: LowNoise | Commits


@dataclass(frozen=True, slots=True)
class Denoiser:
    """A model to evaluate: its host, its sizes, and where and in which dtype it computes.

    `second` makes some of its passes with other weights of the same sizes. `control` is the module
    that reads a control video. A run compiles the model's `arithmetic` first if there is a
    `compiler`. `layers` calls the model's linear layers.
    """

    host: ModelHost
    config: ModelConfig
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    second: SecondWeights | None = None
    control: VaceModule | None = None
    arithmetic: Arithmetic = PLAIN_ARITHMETIC
    compiler: GraphCompiler | None = None
    layers: Layers = TORCH_LAYERS

    @property
    def forward(self) -> Forward:
        """How the model is evaluated."""
        return forward_of(self.config)

    @property
    def histories(self) -> int:
        """How many histories a rollout keeps, each with KV caches of its own."""
        return 2 if self.second and isinstance(self.second.passes, LowNoise) else 1

    def free_products(self) -> None:
        """Free the copies of weights for products, which the next pass makes anew.

        A host may keep the results of shots, and so all that these refer to.
        """
        for model in (self, *([self.second.model] if self.second else [])):
            if model.layers.packed is not None:
                model.layers.packed.renew(None)


def local_denoiser(tree: Any, config: ModelConfig, layers: Layers = TORCH_LAYERS) -> Denoiser:
    """Wrap a module tree that is already loaded on the CPU."""
    return Denoiser(LocalHost(tree), config, layers=layers)
