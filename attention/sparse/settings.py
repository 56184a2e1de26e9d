"""Settings of sparse self- and cross-attention, fixed before a rollout."""

from __future__ import annotations

from dataclasses import dataclass

from ..kernels.choice import AUTO
from ..kernels.choice import NAMES as KERNELS

ORDERS = ("auto", "time", "lsh", "k-means")
"""Orders that put related keys of the history side by side: by time and place, or by bucket.

`auto` is `time`: on real activations its blocks hold more of the attention than blocks of hashed or
clustered keys (docs/measurements/attention.md).
"""


@dataclass(frozen=True, slots=True)
class SparseSelf:
    """AnnSA: queries attend to blocks of the history, the sink, the newest frames and themselves.

    `density` is the share of the history's blocks that a block of queries reads. The first
    `dense_share` of a latent frame's steps are dense, and so are `dense_layers`. A head whose
    blocks hold less than `recall_floor` of the attention of sampled queries in a step is dense for
    the rest of the chunk.
    Histories of fewer than `min_keys` keys are dense, since that is faster; None takes the measured
    number. `kernel` names the kernel that attends to the chosen keys.
    """

    density: float = 0.3
    dense_share: float = 0.3
    dense_layers: tuple[int, ...] = (0,)
    recall_floor: float = 0.85
    recent_frames: int = 3
    order: str = "auto"
    min_keys: int | None = None
    kernel: str = AUTO

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise ValueError(f"density must be above 0 and at most 1; got {self.density}")
        if not 0 <= self.dense_share <= 1:
            raise ValueError(f"dense_share must be from 0 to 1; got {self.dense_share}")
        if min(self.dense_layers, default=0) < 0:
            raise ValueError(f"dense_layers are counted from 0; got {self.dense_layers}")
        if self.order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {self.order!r}")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}; got {self.kernel!r}")


@dataclass(frozen=True, slots=True)
class SparseCross:
    """AnnCA: padding becomes one token of its mass, and other tokens may be pruned.

    With `prune`, the tokens that share a bucket with a query of the chunk stay, at least
    `min_tokens`. Prompts of fewer than `from_tokens` tokens, padding included, are dense; None
    takes the measured number.
    """

    prune: bool = False
    min_tokens: int = 16
    bits: int = 6
    from_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.min_tokens < 1:
            raise ValueError(f"min_tokens must be at least 1; got {self.min_tokens}")


@dataclass(frozen=True, slots=True)
class Sparsity:
    """The sparse parts of a rollout's attention; None leaves a part dense."""

    self_sparsity: SparseSelf | None = None
    prompt_sparsity: SparseCross | None = None
