"""The state of a cache or a rollout as plain tensors and facts that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tensors by name, on the CPU and nobody else's, and facts: numbers, texts, lists and dicts."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> Snapshot:
        """What `joined` put under `name`."""
        prefix = f"{name}."
        tensors = {k[len(prefix) :]: t for k, t in self.tensors.items() if k.startswith(prefix)}
        return Snapshot(tensors, self.facts[name])


def joined(facts: Mapping[str, Any], parts: Mapping[str, Snapshot]) -> Snapshot:
    """Several snapshots and `facts` as one snapshot."""
    tensors = {f"{name}.{k}": t for name, part in parts.items() for k, t in part.tensors.items()}
    return Snapshot(tensors, {**facts, **{name: dict(part.facts) for name, part in parts.items()}})
