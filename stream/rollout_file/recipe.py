"""Converts a rollout's settings to JSON and tensors and back, for a saved rollout file.

A dataclass becomes its name and its fields. Only the dataclasses that settings consist of can be
read. A missing field takes its default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...attention.storage.placement import ON_DEVICE
from ...errors import BadInput
from ...kinds import kind_of
from ...samplers.conditioning.known_frame import KnownFrame
from ...samplers.control.stored import stored
from ...samplers.guidance.scores import Pictures
from ...samplers.settings import RolloutSettings
from .recipe_checks import check_settings
from .recipe_reader import DECODER, KIND, TENSOR, RecipeReader
from .recipe_types import known_types


def to_record(settings: RolloutSettings) -> tuple[Any, dict[str, Tensor]]:
    """The settings as JSON, and the tensors (on the CPU) that the JSON names.

    Known latents that are still lazy, such as a video's, are read now, and a control video as far
    as the shot goes. The placement of the KV cache is left out, since the file may be loaded on
    another machine.
    """
    tensors = _NamedTensors()
    control = settings.control and stored(settings.control, settings.length)
    portable = dataclasses.replace(settings, placement=ON_DEVICE, control=control)
    return _to_json(portable, tensors), tensors.by_name


def from_record(
    record: Any, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu"
) -> RolloutSettings:
    """The settings that `to_record` wrote; decoders of scores are created on `device`.

    ValueError or BadInput if a file that was damaged or made up holds something else.
    """
    reader = RecipeReader(tensors, torch.device(device))
    settings: RolloutSettings = reader.read(record, RolloutSettings, "recipe")
    check_settings(settings)
    return settings


class _NamedTensors:
    """Tensors on the CPU by their names in a file, each once: a prompt may have many lines."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}
        self._names: dict[Hashable, str] = {}

    def name(self, tensor: Tensor) -> str:
        """The name of a tensor, another one for other memory."""
        plain = tensor.detach().cpu().contiguous()
        place = plain.data_ptr(), plain.shape, plain.dtype
        if place not in self._names:
            self._names[place] = f"recipe.{len(self._names)}"
            self.by_name[self._names[place]] = plain
        return self._names[place]


def _to_json(value: object, tensors: _NamedTensors) -> Any:
    if isinstance(value, Tensor):
        return {TENSOR: tensors.name(value)}
    if isinstance(value, Pictures):
        weights = {k: _to_json(v, tensors) for k, v in value.decoder.state_dict().items()}
        return {
            KIND: "Pictures",
            "config": _to_json(value.decoder.config, tensors),
            DECODER: weights,
        }
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
        f"The rollout uses {kind_of(value)}, which a file cannot hold; remove it to save "
        "the rollout."
    )
