"""The state of a cache or a rollout as plain tensors and JSON facts."""

from __future__ import annotations

from collections.abc import Mapping
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
