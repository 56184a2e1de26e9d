"""What to change where a history takes too much memory or cannot do what is asked, in the words of
the nodes that chose it, to end a refusal with.
"""

from __future__ import annotations

from ..attention.cache.policy import CachePolicy
from ..attention.temp_cache.policy import TempCache

NO_TEMP_CACHE = "switch temp_cache of ANN-Sparse Attention off"


def less_memory(cache: CachePolicy) -> str:
    """How a rollout takes less memory."""
    if isinstance(cache, TempCache):
        return (
            "lower width or height, choose the preset `fast` of ANN-Sparse Attention, or `custom` "
            "and fewer window_frames, or set budget_gb, int8 or int4 storage in KV Cache "
            "Settings, or switch temp_cache off"
        )
    if cache.limit is None:
        return (
            "lower length, width or height, or choose the policy `window + sink`, int8 or int4 "
            "storage, or another placement"
        )
    return (
        "lower width, height or window_frames, or choose `window + sink`, int8 or int4 storage, "
        "or another placement"
    )


def smaller_sink(cache: CachePolicy) -> str:
    """How its sink takes less: TempCache's presets have one of their own."""
    if isinstance(cache, TempCache):
        return "take the preset `custom` of ANN-Sparse Attention over a sink_frames of 0"
    return "lower sink_frames"


def plain_window(cache: CachePolicy) -> str:
    """How to have a history of the frames themselves."""
    if isinstance(cache, TempCache):
        return NO_TEMP_CACHE
    return "choose `window + sink` in KV Cache Settings"


def same_for_all_heads(cache: CachePolicy, where: str = "in KV Cache Settings") -> str:
    """How to have a history that is the same in all heads; `where` its policy is chosen."""
    return NO_TEMP_CACHE if isinstance(cache, TempCache) else f"choose another policy {where}"
