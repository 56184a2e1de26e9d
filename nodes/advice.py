"""Which input of which node to change, when the engine refuses settings or memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..attention.cache.policy import CachePolicy, WindowSink
from ..attention.recall.window import RecallWindow
from ..attention.temp_cache.policy import TempCache
from ..errors import BadInput, Unsupported

NO_TEMP_CACHE = "switch temp_cache of ANN-Sparse Attention off"
PLAIN_WINDOW = "`window + sink` in KV Cache Settings"


@contextmanager
def advising() -> Iterator[None]:
    """Complete every refusal of the engine with what to change on the canvas."""
    try:
        yield
    except Unsupported as error:
        advice = ADVICE[error.code](**error.values)
        raise BadInput(f"{error.problem}; {advice}.") from error


def less_memory(cache: CachePolicy) -> str:
    """How a rollout takes less memory."""
    if isinstance(cache, TempCache):
        return (
            "lower width or height, choose the preset `fast` of ANN-Sparse Attention, or `custom` "
            "and fewer entry_frames, or set budget_gb, int8 or int4 storage in KV Cache "
            "Settings, or switch temp_cache off"
        )
    if isinstance(cache, RecallWindow):
        return (
            "lower width, height or archive_frames, choose int8 or int4 storage, or the policy "
            "`window + sink`"
        )
    if cache.limit is None:
        return (
            "lower length, width or height, or choose the policy `window + sink`, int8 or int4 "
            "storage, or another placement"
        )
    smaller = "" if type(cache) is WindowSink else "`window + sink`, "
    return (
        f"lower width, height or window_frames, or choose {smaller}int8 or int4 storage, "
        "or another placement"
    )


def plain_window(cache: CachePolicy) -> str:
    """How to keep the latent frames themselves in the history."""
    return NO_TEMP_CACHE if isinstance(cache, TempCache) else f"choose {PLAIN_WINDOW}"


def _same_for_all_heads(cache: CachePolicy, where: str = "in KV Cache Settings") -> str:
    """How to get a history that is the same in all heads; `where` its policy is chosen."""
    return NO_TEMP_CACHE if isinstance(cache, TempCache) else f"choose another policy {where}"


def _budget(cache: CachePolicy) -> str:
    ways = [
        "raise budget_gb", "lower width or height",
        "choose int8 or int4 storage in KV Cache Settings",
    ]  # fmt: skip
    if isinstance(cache, TempCache):  # its presets have a sink of their own
        ways.append("take the preset `custom` of ANN-Sparse Attention over a sink_frames of 0")
    elif cache.sink_frames:
        ways.append("lower sink_frames")
    return f"{', '.join(ways[:-1])}, or {ways[-1]}"


def _placement(cache: CachePolicy) -> str:
    return (
        "change placement and prompt_switch in KV Cache Settings, or "
        f"{_same_for_all_heads(cache, 'there')}"
    )


ADVICE: dict[str, Callable[..., Any]] = {
    "re-encoding": lambda: (
        "choose the policy `rebuilt window` in KV Cache Settings, or `sink` for first_latent"
    ),
    "re-encoding-vae": lambda: "connect a VAE to KV Cache Settings",
    "context-noise": lambda cache: f"{plain_window(cache)}, or choose a constant context noise",
    "bank-order": lambda: f"choose the order of time, or {PLAIN_WINDOW}",
    "bank-reach": lambda: f"choose another schedule, or {PLAIN_WINDOW}",
    "positions-cache": lambda: (
        f"choose {PLAIN_WINDOW} and no TempCache, or choose the positions `contiguous` in Memory "
        "Rules"
    ),
    "positions-parts": lambda: (
        "choose the positions `contiguous` in Memory Rules, or a guidance that is not exact"
    ),
    "retrieval-cache": lambda cache: f"read the whole far past, or {_same_for_all_heads(cache)}",
    "retrieval-blocks": lambda: (
        "read the whole far past, or set self_attention of ANN-Sparse Attention to `off`"
    ),
    "rules-reach": lambda: "choose another schedule, or turn the memory rules off",
    "camera-cache": lambda cache: f"{plain_window(cache)}",
    "camera-rules": lambda: "turn the memory rules off",
    "camera-reach": lambda: "choose another schedule",
    "heads-reach": lambda: f"choose another schedule, or {PLAIN_WINDOW} and no TempCache",
    "heads-order": lambda: (
        "choose the order of time, or `most attended` for all heads together in KV Cache Settings"
    ),
    "heads-placement": _placement,
    "heads-storage": lambda: (
        "change storage in KV Cache Settings, or choose `most attended` for all heads together"
    ),
    "entries-storage": lambda: f"change storage in KV Cache Settings, or {NO_TEMP_CACHE}",
    "no-sink": lambda: (
        "set sink_frames in KV Cache Settings, or choose another none_as in History Guidance, or "
        "another view in Guidance Term"
    ),
    "heads-ages": lambda cache: f"choose an exact view, or {_same_for_all_heads(cache)}",
    "budget": _budget,
    "recall-rebuilt": lambda: (
        "choose keep or flush for prompt_switch in KV Cache Settings, or a guidance that is not "
        f"exact, or {PLAIN_WINDOW}"
    ),
    "state": lambda: f"choose {PLAIN_WINDOW}, or load a model with a state",
    "coarse-rules": lambda: f"turn the memory rules off, or choose {PLAIN_WINDOW}",
    "coarse-sparse": lambda: (
        f"set self_attention of ANN-Sparse Attention to `off`, or choose {PLAIN_WINDOW}"
    ),
    "coarse-size": lambda: "raise width and height to 32 pixels or more",
    "coarse-views": lambda: (
        "switch exact on in History Guidance or Guidance Term, choose another none_as there, or "
        f"choose {PLAIN_WINDOW}"
    ),
    "coarse-model": lambda: f"choose {PLAIN_WINDOW}, or load a model with such a past",
    "recurrent": lambda: "change it, or load a model with attention",
    "recache": lambda cache: f"choose exact, or {plain_window(cache)}",
}
"""For each rule of the engine what to change, given the values that broke it."""
