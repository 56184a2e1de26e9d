"""A rollout's settings as JSON and tensors, and back: what a saved rollout file carries.

Dataclasses are written as their name and fields. What may be read back is exactly what the settings
are made of, found by walking their types; a field that a file lacks takes its default.
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
    FullHistory, WindowSink, AveragingSink, RebuiltWindow, MostAttended,
    MemoryBank, TempCache, Dense, Packed, OnDevice, AsComputed, Float8, Integers,
    StaggeredSchedule, Flow, VariancePreserving, Euler, ReNoise, DDIM, DPMSolverPP2M, UniPC2,
    Motion, Palette, Region,
)  # fmt: skip
"""Those that the types of the settings' fields do not name."""

KIND, TENSOR = "is", "tensor"


def to_record(settings: RolloutSettings) -> tuple[Any, dict[str, Tensor]]:
    """The settings as JSON, and the tensors (on the CPU) that it names. Known latents that were to
    come, those of a video, are read for it.

    Where the KV cache lies is no part of them: the machine that reads it may be another.
    """
    tensors: dict[str, Tensor] = {}
    return _written(dataclasses.replace(settings, placement=ON_DEVICE), tensors), tensors


def from_record(
    record: Any, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu"
) -> RolloutSettings:
    """The settings that `to_record` wrote; decoders of scores are made on `device`."""
    made = _read(record, tensors, torch.device(device))
    if not isinstance(made, RolloutSettings):
        raise BadInput("The recipe is not a rollout's settings; save the rollout again.")
    return made


def _written(value: object, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = f"recipe.{len(tensors)}"
        tensors[name] = value.detach().cpu().contiguous()
        return {TENSOR: name}
    if isinstance(value, Pictures):
        weights = {k: _written(v, tensors) for k, v in value.decoder.state_dict().items()}
        return {KIND: "Pictures", "config": _written(value.decoder.config, tensors), "vae": weights}
    if isinstance(value, KnownFrame) and not isinstance(value.latents, Tensor):
        value = value.with_latents_read()
    if dataclasses.is_dataclass(value) and type(value).__qualname__ in known_types():
        fields = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init)
        written = {name: _written(one, tensors) for name, one in fields}
        return {KIND: type(value).__qualname__, **written}
    if isinstance(value, tuple):
        return [_written(one, tensors) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise BadInput(
        f"The rollout uses a {type(value).__name__}, which a file cannot hold; leave it out to "
        "save the rollout."
    )


def _read(record: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    if isinstance(record, list):
        return tuple(_read(one, tensors, device) for one in record)
    if not isinstance(record, dict):
        return record
    if TENSOR in record:
        return tensors[record[TENSOR]]
    name = record[KIND]
    values = {k: _read(v, tensors, device) for k, v in record.items() if k not in (KIND, "vae")}
    if name == "Pictures":
        return _pictures(values["config"], record["vae"], tensors, device)
    kind = known_types().get(name)
    fields = {f.name for f in dataclasses.fields(kind)} if kind is not None else set[str]()
    if kind is None or not values.keys() <= fields:
        lacking = name if kind is None else ", ".join(sorted(values.keys() - fields))
        raise BadInput(
            f"The rollout was made with {lacking}, which this Longtake does not know; update it."
        )
    return kind(**values)


def _pictures(
    config: TinyVAEConfig | TAEHVConfig,
    weights: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    device: torch.device,
) -> Pictures:
    vae = TinyVAE(config) if isinstance(config, TinyVAEConfig) else TAEHVDecoder(config)
    vae.load_state_dict({name: tensors[one[TENSOR]] for name, one in weights.items()})
    return Pictures(vae, device)


@cache
def known_types() -> Mapping[str, type[Any]]:
    """The dataclasses that settings are made of, by name."""
    found: dict[str, type[Any]] = {}
    waiting: list[Any] = [RolloutSettings, TinyVAEConfig, TAEHVConfig, *BEHIND_PROTOCOLS]
    while waiting:
        for kind in _dataclasses(waiting.pop()):
            if kind.__qualname__ not in found and kind is not Pictures:
                found[kind.__qualname__] = kind
                waiting += typing.get_type_hints(kind).values()
    return types.MappingProxyType(found)


def _dataclasses(hint: Any) -> Iterator[type[Any]]:
    """Those in a type, its unions and tuples."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for inner in typing.get_args(hint):
        yield from _dataclasses(inner)
