"""What a history with a coarse past cannot serve. Every check raises, or returns nothing."""

from __future__ import annotations

from ...attention.cache.policy import CachePolicy
from ...attention.coarse.window import CoarseWindow
from ...attention.sparse.settings import Sparsity
from ...errors import Unsupported
from ...model.config import COARSE_PATCH
from ...model.forward import ModelConfig
from ..guidance import AllFrames, Guidance, NoFrames
from .memory import MemoryRules


def check_coarse_past(cache: CachePolicy, memory: MemoryRules, sparsity: Sparsity) -> None:
    """Refuse what reads keys frame by frame: older latent frames have a quarter of the keys."""
    if not isinstance(cache, CoarseWindow):
        return
    if memory != MemoryRules():
        raise Unsupported(
            "The memory rules weigh and place latent frames of one size, and this model reads its "
            "older ones in coarse patches",
            "coarse-rules",
        )
    if sparsity.self_sparsity is not None:
        raise Unsupported(
            "Sparse attention chooses among the keys of latent frames of one size, and this model "
            "reads its older ones in coarse patches",
            "coarse-sparse",
        )


def check_coarse_size(cache: CachePolicy, rows: int, columns: int) -> None:
    """Refuse a latent picture of `rows` x `columns` that has no coarse patch."""
    if isinstance(cache, CoarseWindow) and min(rows, columns) < COARSE_PATCH:
        raise Unsupported(
            f"The model reads its older past in patches of {COARSE_PATCH} x {COARSE_PATCH} latent "
            f"places, and the picture has {rows} x {columns}",
            "coarse-size",
        )


def check_coarse_views(cache: CachePolicy, guidance: Guidance) -> None:
    """Refuse guidance that looks at a part of a history with a coarse past."""
    views = [branch.view for branch in guidance.branches]
    whole = (isinstance(view.frames, AllFrames | NoFrames) or view.rebuilt for view in views)
    if isinstance(cache, CoarseWindow) and not all(whole):
        raise Unsupported(
            "The guidance looks at a part of the history, and this model reads its older latent "
            "frames in coarse patches, together with all others",
            "coarse-views",
        )


def check_coarse_model(cache: CachePolicy, config: ModelConfig) -> None:
    """Refuse a coarse past for a model without an embedding of coarse patches."""
    if isinstance(cache, CoarseWindow) and not config.coarse_past:
        raise Unsupported(
            "The KV cache reads the older past in coarse patches, and this model has no layer for "
            "them",
            "coarse-model",
        )
