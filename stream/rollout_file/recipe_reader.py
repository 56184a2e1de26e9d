"""Builds settings from the JSON of a recipe, which may be damaged or hostile.

Each value must have the type of the field that takes it, numbers must be finite, and every sum of
sizes is bounded by the file. `Malformed` says which value is wrong.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.vae.taehv import TAEHVConfig, TAEHVDecoder
from ...model.vae.tiny import TinyVAE, TinyVAEConfig
from ...samplers.guidance.scores import Pictures
from .recipe_types import BEHIND_PROTOCOLS, field_types, known_types, required_fields

KIND, TENSOR, DECODER = "is", "tensor", "vae"
MAX_INTEGER = 2**64 - 1  # a seed
MAX_TEXT = 1_000_000  # characters
MAX_TENSOR_AXES = 4
MAX_WIDTH = 4096  # channels of a tiny VAE


class Malformed(ValueError):
    """A value in a file is not what its place takes."""

    def __init__(self, place: str, value: object, expected: str) -> None:
        super().__init__(f"{place} is {_show(value)}, but must be {expected}")


def read_value(record: object, hint: Any, place: str) -> Any:
    """A plain JSON value of type `hint`; lists become tuples where the type says so."""
    return RecipeReader({}, torch.device("cpu")).read(record, hint, place)


@dataclass(frozen=True, slots=True)
class RecipeReader:
    """Reads values whose tensors are in `tensors`; decoders are created on `device`."""

    tensors: Mapping[str, Tensor]
    device: torch.device

    def read(self, record: Any, hint: Any, place: str) -> Any:
        """The value of type `hint` that a record describes."""
        if hint is Any:
            return record
        choices = _alternatives(hint)
        choice = next((choice for choice in choices if _may_be(record, choice)), None)
        if choice is None:
            _check_known(record)
            raise Malformed(place, record, _name(choices))
        if isinstance(record, list):
            return self._read_list(record, choice, place)
        if not isinstance(record, dict):
            return record  # an int where a float may be stays one: addresses hash it
        if choice is Tensor:
            return self._read_tensor(record, place)
        if typing.get_origin(choice) is dict:
            inner = typing.get_args(choice)[1]
            return {name: self.read(value, inner, f"{place}.{name}")
                    for name, value in record.items()}  # fmt: skip
        if choice is Pictures:
            return self._read_pictures(record, place)
        return self.read_dataclass(record, choice, place)

    def read_dataclass(self, record: Mapping[str, Any], kind: type[Any], place: str) -> Any:
        """The dataclass `kind` with the fields of a record; BadInput if they do not go together."""
        values = {name: value for name, value in record.items() if name != KIND}
        hints = field_types(kind.__qualname__)
        if not values.keys() <= hints.keys():
            raise _unknown(", ".join(sorted(values.keys() - hints.keys())))
        missing = sorted(required_fields(kind.__qualname__) - values.keys())
        if missing:
            raise Malformed(f"{place}.{missing[0]}", None, _name(_alternatives(hints[missing[0]])))
        fields = {
            name: self.read(value, hints[name], f"{place}.{name}") for name, value in values.items()
        }
        try:
            return kind(**fields)
        except ValueError as error:
            raise Malformed(place, record.get(KIND), f"consistent: {error}") from error

    def _read_list(self, record: list[Any], hint: Any, place: str) -> Any:
        """A tuple or list of one type, or a tuple of a fixed number of types."""
        inner = typing.get_args(hint)
        if hint is list or typing.get_origin(hint) is list or inner[-1] is Ellipsis:
            inner = (inner[0],) * len(record)
        if len(inner) != len(record):
            raise Malformed(place, record, f"a list of {len(inner)}")
        pairs = enumerate(zip(record, inner, strict=True))
        values = [self.read(value, part, f"{place}[{i}]") for i, (value, part) in pairs]
        return values if typing.get_origin(hint) is list else tuple(values)

    def _read_tensor(self, record: Mapping[str, Any], place: str) -> Tensor:
        name = record[TENSOR]
        tensor = self.tensors.get(name) if isinstance(name, str) else None
        if tensor is None:
            raise Malformed(place, name, "a tensor of the file")
        fits = tensor.is_floating_point() and 1 <= tensor.ndim <= MAX_TENSOR_AXES
        if not fits or not tensor.numel() or not tensor.isfinite().all():
            shape = f"{tensor.dtype} {[*tensor.shape]}"
            raise Malformed(place, shape, "finite numbers, with at most four axes")
        return tensor

    def _read_pictures(self, record: Mapping[str, Any], place: str) -> Pictures:
        """A score's decoder, built without memory until its weights are known to fit."""
        config = self.read(record.get("config"), TinyVAEConfig | TAEHVConfig, f"{place}.config")
        weights = self.read(record.get(DECODER), dict[str, Tensor], f"{place}.{DECODER}")
        if any(not 1 <= size <= MAX_WIDTH for size in _sizes(config)):
            raise Malformed(f"{place}.config", record.get("config"), "sizes of a small decoder")
        try:
            with torch.device("meta"):
                vae = TinyVAE(config) if isinstance(config, TinyVAEConfig) else TAEHVDecoder(config)
            vae.load_state_dict(weights, assign=True)
        except (RuntimeError, ValueError) as error:
            raise Malformed(place, "a decoder", "one that its weights fit") from error
        return Pictures(vae, self.device)


def _sizes(config: TinyVAEConfig | TAEHVConfig) -> tuple[int, ...]:
    if isinstance(config, TinyVAEConfig):
        return (*config.encoder_widths, *config.decoder_widths)
    return (*config.widths, config.channels, config.patch)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union, and what stands behind a protocol."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return tuple(part for inner in typing.get_args(hint) for part in _alternatives(inner))
    return BEHIND_PROTOCOLS.get(hint, (hint,)) if isinstance(hint, type) else (hint,)


def _may_be(record: Any, hint: Any) -> bool:
    """Whether a record has the form of a type, without regard to what it consists of."""
    if typing.get_origin(hint) is Literal:
        return isinstance(record, str) and record in typing.get_args(hint)
    if hint is float or hint is int:
        return _is_number(record, whole=hint is int)
    if hint is str:
        return isinstance(record, str) and len(record) <= MAX_TEXT and _is_text(record)
    if hint is bool or hint is type(None):
        return type(record) is hint
    if typing.get_origin(hint) in (tuple, list):
        return isinstance(record, list)
    if not isinstance(record, dict):
        return False
    if hint is Tensor:
        return record.keys() == {TENSOR}
    return typing.get_origin(hint) is dict or record.get(KIND) == hint.__qualname__


def _is_number(record: Any, *, whole: bool) -> bool:
    if type(record) is int:
        return abs(record) <= MAX_INTEGER
    return not whole and type(record) is float and math.isfinite(record)


def _is_text(record: str) -> bool:
    """Whether a file or a terminal can hold a text: half a character cannot be encoded."""
    return not any("\ud800" <= letter <= "\udfff" for letter in record)


def _check_known(record: Any) -> None:
    """Refuse by its name what another Longtake may know."""
    kind = record.get(KIND) if isinstance(record, dict) else None
    if isinstance(kind, str) and kind not in known_types() and kind != Pictures.__qualname__:
        raise _unknown(kind)


def _unknown(names: str) -> BadInput:
    shown = ascii(names[:200])[1:-1]
    return BadInput(
        f"The rollout uses {shown}, which this Longtake does not know; update Longtake."
    )


def _name(choices: Sequence[Any]) -> str:
    """The types that a place takes, in words."""
    words = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false",
             type(None): "null", Tensor: "a tensor of the file"}  # fmt: skip
    names = [
        f"one of {', '.join(typing.get_args(choice))}"
        if typing.get_origin(choice) is Literal
        else "a list"
        if typing.get_origin(choice) in (tuple, list)
        else "an object"
        if typing.get_origin(choice) is dict
        else words.get(choice) or choice.__qualname__
        for choice in choices
    ]
    return " or ".join(dict.fromkeys(names)) or "left out"


def _show(value: object) -> str:
    """A value in a sentence, in a few characters."""
    if isinstance(value, dict):
        return f"an object of {len(value)}" if KIND not in value else f"a {value[KIND]!a}"[:60]
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "a huge number"
    return "missing" if value is None else f"{value!a}"[:60]
