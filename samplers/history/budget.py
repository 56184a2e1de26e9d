"""Limits a KV cache by bytes: the longest window that fits a budget."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...errors import Unsupported
from ...model.forward import ModelConfig
from ..settings import RolloutSettings
from .plan import planned_bytes

MAX_WINDOW = 4096


def within_budget(
    settings: RolloutSettings, budget_bytes: int, config: ModelConfig, dtype: torch.dtype
) -> RolloutSettings:
    """The settings with the longest window whose caches fit into `budget_bytes`.

    The window is never longer than the policy's. A full history that does not fit becomes a window.
    Unsupported if the sink and one more latent frame do not fit.
    """
    if _bytes(settings, config, dtype) <= budget_bytes and _is_bounded(settings):
        return settings
    least = settings.cache.sink_frames + 1
    most = settings.cache.limit or settings.length or MAX_WINDOW
    if _bytes(_with_window(settings, least), config, dtype) > budget_bytes:
        needed = _bytes(_with_window(settings, least), config, dtype)
        frames = (
            "1 latent frame takes" if least == 1
            else f"{least} latent frames, the sink and one more, take"
        )  # fmt: skip
        raise Unsupported(
            f"The KV cache's budget is {budget_bytes / 2**30:.3g} GB, and {frames} "
            f"{needed / 2**30:.3g} GB",
            "budget",
            cache=settings.cache,
        )
    while least < most:
        middle = (least + most + 1) // 2
        fits = _bytes(_with_window(settings, middle), config, dtype) <= budget_bytes
        least, most = (middle, most) if fits else (least, middle - 1)
    return _with_window(settings, least)


def _is_bounded(settings: RolloutSettings) -> bool:
    return settings.cache.limit is not None or settings.length is not None


def _with_window(settings: RolloutSettings, frames: int) -> RolloutSettings:
    return replace(settings, cache=settings.cache.within(frames))


def _bytes(settings: RolloutSettings, config: ModelConfig, dtype: torch.dtype) -> int:
    """Bytes of all caches under the guidance that takes the most."""
    return max(planned_bytes(stage, config, dtype) for stage in settings.stages)
