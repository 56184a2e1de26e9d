"""The dataclasses that a recipe consists of, collected by walking the types of their fields."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

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
from ...attention.storage.codec import AsComputed, Codec
from ...attention.storage.dense import Dense, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.placement import OnDevice, Placement
from ...attention.storage.quantize import Float8, Integers
from ...attention.temp_cache.policy import TempCache
from ...model.vae.protocol import StreamingCodec
from ...model.vae.taehv import TAEHVConfig
from ...model.vae.tiny import TinyVAEConfig
from ...samplers.conditioning.known_frame import LazyLatents
from ...samplers.control.stored import StoredControl, StoredPicture
from ...samplers.control.video import ControlFrames
from ...samplers.guidance.score import Score
from ...samplers.guidance.scores import Motion, Palette, Pictures, Region
from ...samplers.schedule.rows import NoiseSchedule, StaggeredSchedule
from ...samplers.settings import RolloutSettings
from ...samplers.solvers.multistep import DPMSolverPP2M, UniPC2
from ...samplers.solvers.noise_process import Flow, NoiseProcess, VariancePreserving
from ...samplers.solvers.single_step import DDIM, Euler, ReNoise, ReNoiseInHalves, Solver

BEHIND_PROTOCOLS: Mapping[type[Any], tuple[type[Any], ...]] = {
    CachePolicy: (
        FullHistory, WindowSink, AveragingSink, RebuiltWindow, MostAttended, SharedWindow,
        WaveWindow, AnchorWindow, DistantSink, MemoryBank, TempCache, TetherCache,
        RecallWindow, DeltaWindow, DummyHeads, CoarseWindow,
    ),
    Storage: (Dense, Packed),
    Placement: (OnDevice,),
    Codec: (AsComputed, Float8, Integers),
    NoiseSchedule: (StaggeredSchedule,),
    NoiseProcess: (Flow, VariancePreserving),
    Solver: (Euler, ReNoise, ReNoiseInHalves, DDIM, DPMSolverPP2M, UniPC2),
    Score: (Motion, Palette, Region),
    LazyLatents: (StoredPicture,),  # others are read before they are saved
    ControlFrames: (StoredControl,),
    StreamingCodec: (),  # a host's own, which no file can hold
}  # fmt: skip
"""The dataclasses that stand behind each protocol, which the types of the fields do not name."""


@cache
def known_types() -> Mapping[str, type[Any]]:
    """The dataclasses that settings consist of, by name."""
    by_name: dict[str, type[Any]] = {}
    behind = (kind for kinds in BEHIND_PROTOCOLS.values() for kind in kinds)
    waiting: list[Any] = [RolloutSettings, TinyVAEConfig, TAEHVConfig, *behind]
    while waiting:
        for kind in _dataclasses(waiting.pop()):
            if kind.__qualname__ not in by_name and kind is not Pictures:
                by_name[kind.__qualname__] = kind
                waiting += typing.get_type_hints(kind).values()
    return types.MappingProxyType(by_name)


@cache
def field_types(name: str) -> Mapping[str, Any]:
    """The types of the fields that one of `known_types` takes."""
    kind = known_types()[name]
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


@cache
def required_fields(name: str) -> frozenset[str]:
    """The fields of one of `known_types` that have no default."""
    missing = dataclasses.MISSING
    return frozenset(
        field.name for field in dataclasses.fields(known_types()[name])
        if field.init and field.default is missing and field.default_factory is missing
    )  # fmt: skip


def _dataclasses(hint: Any) -> Iterator[type[Any]]:
    """The dataclasses within a type, its unions and its tuples."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for inner in typing.get_args(hint):
        yield from _dataclasses(inner)
