"""The values of a KV_CACHE socket: requested settings, which a model's preset completes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from ...attention.cache.by_layer.dummy_heads import DummyHeads
from ...attention.cache.by_layer.tether import TetherCache
from ...attention.cache.placed_windows import (
    AnchorWindow,
    DistantSink,
    SharedWindow,
    WaveWindow,
)
from ...attention.cache.policy import (
    AveragingSink,
    CachePolicy,
    FullHistory,
    MemoryBank,
    MostAttended,
    RebuiltWindow,
    WindowSink,
)
from ...attention.coarse.window import CoarseWindow
from ...attention.delta.window import DeltaWindow
from ...attention.recall.window import RecallWindow
from ...errors import BadInput
from ...model.preset import Preset, overridden
from ...model.preset_cache import in_world, preset_cache, recalling
from ...samplers.history.settings import CacheSettings
from ...samplers.rules.memory import preset_rules
from ...samplers.schedule.options import FROM_MODEL

WINDOW, FULL, EMA = "window + sink", "full", "window + EMA sink"
REBUILT, ATTENDED, BY_HEAD = "rebuilt window", "most attended", "most attended, per head"
BANK, DEEP, DIVERSE = "window + memory bank", "window + deep sink", "attention + diversity"
BY_VIEW, BY_CONTENT = "window + recall by view", "window + recall by content"
STATE, HEADS = "window + state", "window + dummy heads"
TOP_ALIGNED = "top-aligned"
OWN_SINKS = {EMA: 3, DIVERSE: 3, HEADS: 1}
"""Latent frames of the sink that a policy has by default, as published."""


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
    BY_VIEW: recalling,
    BY_CONTENT: lambda window, sink: recalling(window, sink, "content"),
    STATE: DeltaWindow,
    HEADS: lambda window, sink: DummyHeads(window, sink or OWN_SINKS[HEADS]),
}
_NAMES = {
    WindowSink: WINDOW, FullHistory: FULL, AveragingSink: EMA, RebuiltWindow: REBUILT,
    MemoryBank: BANK, SharedWindow: f"{WINDOW}, shared with the latent frames in work",
    WaveWindow: f"{WINDOW}, shared with the latent frames in work, as WaveForcing counts it",
    AnchorWindow: f"{WINDOW}, the sink at its true distance for commits",
    DistantSink: f"{WINDOW} at its true distance", DeltaWindow: STATE, RecallWindow: BY_VIEW,
    CoarseWindow: f"{REBUILT}, its older part in coarse patches",
}  # fmt: skip


def policy_name(policy: CachePolicy) -> str:
    """What KV Cache Settings calls a policy that a model may have."""
    return _NAMES[type(policy)]


@dataclass(frozen=True, slots=True)
class KVCacheSpec:
    """What KV Cache Settings requests.

    The model's preset fills in the policy `from model`, and a window or a sink of None (in latent
    frames). A window that recalls takes `recall_frames`, None for its usual share, from the last
    `archive_frames` that left it, None for the model's own number or else all. `settings` completes
    a policy with the other widgets.
    """

    settings: Callable[[CachePolicy], CacheSettings]
    policy: str = FROM_MODEL
    window_frames: int | None = None
    sink_frames: int | None = None
    recall_frames: int | None = None
    archive_frames: int | None = None

    def __post_init__(self) -> None:
        if self.policy != FULL and None not in (self.window_frames, self.sink_frames):
            _check(self.policy, self.window_frames or 0, self.sink_frames or 0)
        if self.policy in (BY_VIEW, BY_CONTENT):
            room = None
            if self.window_frames is not None and self.sink_frames is not None:
                room = self.window_frames - self.sink_frames - 1
            _check_recall(self.recall_frames, room, self.archive_frames)

    def resolve(self, preset: Preset) -> CacheSettings:
        """The cache settings for a model with `preset`."""
        policy, is_own = self._policy(preset), self.policy == FROM_MODEL
        rules = preset_rules(preset, policy)
        return replace(self.settings(policy), memory=rules, gives_way=is_own)

    def values_from_preset(self, preset: Preset) -> dict[str, object]:
        """The settings that come from `preset`, by name."""
        policy = self._policy(preset)
        values: dict[str, object] = {}
        if self.policy == FROM_MODEL:
            values["policy"] = policy_name(policy)
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
        policy = (
            preset_cache(used)
            if self.policy == FROM_MODEL
            else POLICIES[self.policy](used.window_frames, used.sink_frames)
        )
        return self._recalling(policy, preset) if isinstance(policy, RecallWindow) else policy

    def _recalling(self, policy: RecallWindow, preset: Preset) -> RecallWindow:
        """The policy with the requested numbers, in the world of the model."""
        recall = policy.recall_frames if self.recall_frames is None else self.recall_frames
        room = policy.window_frames - policy.sink_frames - 1
        archive = self.archive_frames or policy.archive_frames
        _check_recall(recall, room, archive)
        return in_world(replace(policy, recall_frames=recall, archive_frames=archive), preset)


def _check(policy: str, window_frames: int, sink_frames: int) -> None:
    sink_frames = sink_frames or OWN_SINKS.get(policy, 0)
    if sink_frames >= window_frames:
        raise BadInput(
            f"sink_frames is {sink_frames} and window_frames {window_frames}; the sink is part of "
            "the window, so set sink_frames to a smaller number."
        )


def _check_recall(recall: int | None, room: int | None, archive: int | None) -> None:
    """Refuse to recall more latent frames than there is `room` or `archive` for.

    What is None is not known yet.
    """
    if recall is not None and room is not None and recall > room:
        raise BadInput(
            f"recall_frames is {recall} and the window has room for {room} beside its sink and "
            "one newest latent frame; set recall_frames to a smaller number."
        )
    if recall is not None and archive is not None and archive < recall:
        raise BadInput(
            f"archive_frames is {archive} and recall_frames {recall}; the archive "
            "must hold as many latent frames as are recalled, so set a larger number, or 0."
        )


class Resolvable(Protocol):
    """The value of a KV_CACHE socket."""

    def resolve(self, preset: Preset) -> CacheSettings:
        """The cache settings for a model with `preset`."""

    def values_from_preset(self, preset: Preset) -> dict[str, object]:
        """The settings that come from `preset`, by name."""
