"""The state of a cache or a rollout as plain tensors and JSON facts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tensors by name, copied to the CPU, and facts: numbers, texts, lists and dicts."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> Snapshot:
        """The snapshot that `join` stored under `name`."""
        prefix = f"{name}."
        tensors = {k[len(prefix) :]: t for k, t in self.tensors.items() if k.startswith(prefix)}
        return Snapshot(tensors, self.facts[name])


def join(facts: Mapping[str, Any], parts: Mapping[str, Snapshot]) -> Snapshot:
    """Several snapshots and `facts` as one snapshot."""
    tensors = {f"{name}.{k}": t for name, part in parts.items() for k, t in part.tensors.items()}
    return Snapshot(tensors, {**facts, **{name: dict(part.facts) for name, part in parts.items()}})


def check_form(snapshot: Snapshot, like: Snapshot, most: int) -> None:
    """ValueError if a snapshot has not the form of `like`, the state of an empty history.

    Facts are numbers of latent frames, slots and chunks, up to `most` or those of `like`. Tensors
    have the dtypes and axes of `like`, whose empty axes may have any length. One axis
    more may be longer, since a memory bank begins with cells.
    """
    _check_facts(snapshot.facts, like.facts, max(most, *_numbers(like.facts), 0), "its facts")
    for name, empty in like.tensors.items():
        tensor = snapshot.tensors.get(name)
        if tensor is None or tensor.dtype != empty.dtype or tensor.ndim != empty.ndim:
            raise ValueError(f"its {name} is not there, or of another kind")
        pairs = [*zip(tensor.shape, empty.shape, strict=True)]
        other = [(size, least) for size, least in pairs if least and size != least]
        if len(other) > 1 or any(size < least for size, least in other):
            raise ValueError(f"its {name} is {[*tensor.shape]} and must be {[*empty.shape]}")


def _check_facts(facts: Any, like: Any, most: int, place: str) -> None:
    if isinstance(like, Mapping):
        if not isinstance(facts, Mapping) or (like and facts.keys() != like.keys()):
            raise ValueError(f"{place} have other names")
        for name, value in facts.items():
            _check_facts(value, like.get(name, []), most, str(name))
    elif isinstance(like, list):
        values = [*_numbers(facts)] if isinstance(facts, list) else [None]
        if not all(_is_usable(value, most) for value in values):
            raise ValueError(f"{place} is not a list of numbers up to {most}")
    elif not isinstance(facts, int) or type(facts) is not type(like) or not -1 <= facts <= most:
        raise ValueError(f"{place} is not a number up to {most}")


def _is_usable(value: Any, most: int) -> bool:
    """Whether a value is a number up to `most`, or a measured one, which is finite."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and -1 <= value <= most


def _numbers(facts: Any) -> Iterator[Any]:
    """All values inside lists and mappings, however deep."""
    if isinstance(facts, Mapping):
        facts = list(facts.values())
    if not isinstance(facts, list | tuple):
        yield facts
        return
    for value in facts:
        yield from _numbers(value)
