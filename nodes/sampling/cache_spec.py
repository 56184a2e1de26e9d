"""The values of a KV_CACHE socket: requested settings, which a model's preset completes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from ...attention.cache.placed_windows import DistantSink, SharedWindow, WaveWindow
from ...attention.cache.policy import (
    AveragingSink,
    CachePolicy,
    FullHistory,
    MemoryBank,
    MostAttended,
    RebuiltWindow,
    WindowSink,
)
from ...attention.cache.tether import TetherCache
from ...errors import BadInput
from ...model.preset import Preset, overridden
from ...model.preset_cache import preset_cache
from ...samplers.history.settings import CacheSettings
from ...samplers.rules.memory import preset_rules
from ...samplers.schedule.options import FROM_MODEL

WINDOW, FULL, EMA = "window + sink", "full", "window + EMA sink"
REBUILT, ATTENDED, BY_HEAD = "rebuilt window", "most attended", "most attended, per head"
BANK, DEEP, DIVERSE = "window + memory bank", "window + deep sink", "attention + diversity"
TOP_ALIGNED = "top-aligned"
OWN_SINKS = {EMA: 3, DIVERSE: 3}
"""Latent frames of the sink that a policy has by default: Reward Forcing's and TetherCache's."""
POLICIES: dict[str, Callable[[int, int], CachePolicy]] = {
    WINDOW: WindowSink,
    FULL: lambda window, sink: FullHistory(),
    EMA: lambda window, sink: AveragingSink(window, sink or OWN_SINKS[EMA]),
    REBUILT: RebuiltWindow,
    ATTENDED: MostAttended,
    BY_HEAD: lambda window, sink: MostAttended(window, sink, per_head=True),
    BANK: MemoryBank,
    DEEP: lambda window, sink: WindowSink(window, sink or window // 2),
    DIVERSE: lambda window, sink: TetherCache(window, sink or OWN_SINKS[DIVERSE]),
}
_NAMES = {
    WindowSink: WINDOW, FullHistory: FULL, AveragingSink: EMA, RebuiltWindow: REBUILT,
    MemoryBank: BANK, SharedWindow: f"{WINDOW}, shared with the latent frames in work",
    WaveWindow: f"{WINDOW}, shared with the latent frames in work, as WaveForcing counts it",
    DistantSink: f"{WINDOW} at its true distance",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class KVCacheSpec:
    """What KV Cache Settings requests.

    The model's preset fills in the policy `from model`, and a window or a sink of None (in latent
    frames). `settings` completes a policy with the other widgets.
    """

    settings: Callable[[CachePolicy], CacheSettings]
    policy: str = FROM_MODEL
    window_frames: int | None = None
    sink_frames: int | None = None

    def __post_init__(self) -> None:
        if self.policy != FULL and None not in (self.window_frames, self.sink_frames):
            _check(self.policy, self.window_frames or 0, self.sink_frames or 0)

    def resolve(self, preset: Preset) -> CacheSettings:
        """The cache settings for a model with `preset`."""
        policy = self._policy(preset)
        return replace(self.settings(policy), memory=preset_rules(preset, policy))

    def values_from_preset(self, preset: Preset) -> dict[str, object]:
        """The settings that come from `preset`, by name."""
        policy = self._policy(preset)
        values: dict[str, object] = {}
        if self.policy == FROM_MODEL:
            values["policy"] = _NAMES[type(policy)]
        if isinstance(policy, WindowSink):
            requested = {"window_frames": self.window_frames, "sink_frames": self.sink_frames}
            values |= {name: getattr(policy, name) for name in requested if requested[name] is None}
        if preset_rules(preset, policy).positions is not None:
            values["positions"] = TOP_ALIGNED
        return values

    def _policy(self, preset: Preset) -> CachePolicy:
        if self.policy == FULL:
            return FullHistory()
        used = overridden(preset, window_frames=self.window_frames, sink_frames=self.sink_frames)
        if self.policy == FROM_MODEL and not used.window_frames:
            return preset_cache(used)
        if not used.window_frames:
            raise BadInput(
                "window_frames is from the model, which sees the full history; set a number for "
                f"the policy {self.policy!r} in KV Cache Settings, or choose `full`."
            )
        _check(self.policy, used.window_frames, used.sink_frames)
        if self.policy == FROM_MODEL:
            return preset_cache(used)
        return POLICIES[self.policy](used.window_frames, used.sink_frames)


def _check(policy: str, window_frames: int, sink_frames: int) -> None:
    sink_frames = sink_frames or OWN_SINKS.get(policy, 0)
    if sink_frames >= window_frames:
        raise BadInput(
            f"sink_frames is {sink_frames} and window_frames {window_frames}; the sink is part of "
            "the window, so set sink_frames to a smaller number."
        )


class Resolvable(Protocol):
    """The value of a KV_CACHE socket."""

    def resolve(self, preset: Preset) -> CacheSettings:
        """The cache settings for a model with `preset`."""

    def values_from_preset(self, preset: Preset) -> dict[str, object]:
        """The settings that come from `preset`, by name."""
