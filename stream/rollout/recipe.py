"""Converts a rollout's settings to JSON and tensors and back, for a saved rollout file.

A dataclass becomes its name and its fields. Only the dataclasses that settings consist of can be
read, found by walking the types of their fields. A missing field takes its default.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...attention.cache.placed_windows import DistantSink, SharedWindow
from ...attention.cache.policy import (
    AveragingSink,
    FullHistory,
    MemoryBank,
    MostAttended,
    RebuiltWindow,
    WindowSink,
)
from ...attention.storage.dense import Dense
from ...attention.storage.packed import Packed
from ...attention.storage.placement import ON_DEVICE, OnDevice
from ...attention.storage.quantize import AsComputed, Float8, Integers
from ...attention.temp_cache.policy import TempCache
from ...errors import BadInput
from ...model.vae.taehv import TAEHVConfig, TAEHVDecoder
from ...model.vae.tiny import TinyVAE, TinyVAEConfig
from ...samplers.conditioning.known_frame import KnownFrame
from ...samplers.guidance.scores import Motion, Palette, Pictures, Region
from ...samplers.schedule.rows import StaggeredSchedule
from ...samplers.settings import RolloutSettings
from ...samplers.solvers.multistep import DPMSolverPP2M, UniPC2
from ...samplers.solvers.noise_process import Flow, VariancePreserving
from ...samplers.solvers.single_step import DDIM, Euler, ReNoise

BEHIND_PROTOCOLS = (
    FullHistory, WindowSink, AveragingSink, RebuiltWindow, MostAttended, SharedWindow,
    DistantSink, MemoryBank, TempCache, Dense, Packed, OnDevice, AsComputed, Float8, Integers,
    StaggeredSchedule, Flow, VariancePreserving, Euler, ReNoise, DDIM, DPMSolverPP2M, UniPC2,
    Motion, Palette, Region,
)  # fmt: skip
"""Dataclasses that stand behind a protocol, which the types of the fields do not name."""

KIND, TENSOR = "is", "tensor"


def to_record(settings: RolloutSettings) -> tuple[Any, dict[str, Tensor]]:
    """The settings as JSON, and the tensors (on the CPU) that the JSON names.

    Known latents that are still lazy, such as a video's, are read now. The placement of the KV
    cache is left out, since the file may be loaded on another machine.
    """
    tensors: dict[str, Tensor] = {}
    return _to_json(dataclasses.replace(settings, placement=ON_DEVICE), tensors), tensors


def from_record(
    record: Any, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu"
) -> RolloutSettings:
    """The settings that `to_record` wrote; decoders of scores are created on `device`."""
    settings = _from_json(record, tensors, torch.device(device))
    if not isinstance(settings, RolloutSettings):
        raise BadInput("The recipe is not a rollout's settings; save the rollout again.")
    return settings


def _to_json(value: object, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = f"recipe.{len(tensors)}"
        tensors[name] = value.detach().cpu().contiguous()
        return {TENSOR: name}
    if isinstance(value, Pictures):
        weights = {k: _to_json(v, tensors) for k, v in value.decoder.state_dict().items()}
        return {KIND: "Pictures", "config": _to_json(value.decoder.config, tensors), "vae": weights}
    if isinstance(value, KnownFrame) and not isinstance(value.latents, Tensor):
        value = value.with_latents_read()
    if dataclasses.is_dataclass(value) and type(value).__qualname__ in known_types():
        fields = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init)
        values = {name: _to_json(field, tensors) for name, field in fields}
        return {KIND: type(value).__qualname__, **values}
    if isinstance(value, tuple):
        return [_to_json(item, tensors) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise BadInput(
        f"The rollout uses a {type(value).__name__}, which a file cannot hold; remove it to save "
        "the rollout."
    )


def _from_json(record: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    if isinstance(record, list):
        return tuple(_from_json(item, tensors, device) for item in record)
    if not isinstance(record, dict):
        return record
    if TENSOR in record:
        return tensors[record[TENSOR]]
    name = record[KIND]
    values = {
        k: _from_json(v, tensors, device) for k, v in record.items() if k not in (KIND, "vae")
    }
    if name == "Pictures":
        return _pictures(values["config"], record["vae"], tensors, device)
    kind = known_types().get(name)
    known = {f.name for f in dataclasses.fields(kind)} if kind is not None else set[str]()
    if kind is None or not values.keys() <= known:
        unknown = name if kind is None else ", ".join(sorted(values.keys() - known))
        raise BadInput(
            f"The rollout uses {unknown}, which this Longtake does not know; update Longtake."
        )
    return kind(**values)


def _pictures(
    config: TinyVAEConfig | TAEHVConfig,
    weights: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    device: torch.device,
) -> Pictures:
    vae = TinyVAE(config) if isinstance(config, TinyVAEConfig) else TAEHVDecoder(config)
    vae.load_state_dict({name: tensors[value[TENSOR]] for name, value in weights.items()})
    return Pictures(vae, device)


@cache
def known_types() -> Mapping[str, type[Any]]:
    """The dataclasses that settings consist of, by name."""
    by_name: dict[str, type[Any]] = {}
    waiting: list[Any] = [RolloutSettings, TinyVAEConfig, TAEHVConfig, *BEHIND_PROTOCOLS]
    while waiting:
        for kind in _dataclasses(waiting.pop()):
            if kind.__qualname__ not in by_name and kind is not Pictures:
                by_name[kind.__qualname__] = kind
                waiting += typing.get_type_hints(kind).values()
    return types.MappingProxyType(by_name)


def _dataclasses(hint: Any) -> Iterator[type[Any]]:
    """The dataclasses within a type, its unions and its tuples."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for inner in typing.get_args(hint):
        yield from _dataclasses(inner)
