"""Frames that a model makes of others have numbers only."""

from __future__ import annotations

from torch import Tensor

from ...errors import NotFinite


def check_finite(frames: Tensor, first: int, maker: str, advice: str) -> None:
    """Raise NotFinite where one of the `frames` (n, 3, H, W), the video's from `first` on, is not.

    A file would show it black. `maker` begins the sentence, and `advice` ends it.
    """
    wrong = (~frames.isfinite()).flatten(1).any(1).nonzero().flatten()
    if len(wrong):
        raise NotFinite(
            f"{maker} made NaN or infinity at frame {first + int(wrong[0])}, counted from 0; "
            f"earlier chunks are kept: {advice}."
        )
