"""What a MODEL carries about itself: its family and the preset that `from model` stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...model.families.recognise import Recognised
from ...model.families.table import BY_KEY, Family
from ...model.preset import Preset
from .. import host

KEY = "longtake.facts"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The family of a MODEL and what that rests on, one sentence."""

    family: Family
    why: str

    @property
    def assumed(self) -> str:
        """What it was taken for and why, as the node and the report say it."""
        return f"{self.family.title}: {self.why}"

    @property
    def preset(self) -> Preset:
        """What the family was trained to run with."""
        return self.family.preset


def remember(model: Any, found: Recognised) -> None:
    """Let a MODEL and all its clones carry what its file was found to be."""
    why = next(reason for reason in found.reasons if reason.startswith("family: "))
    host.attach(model, KEY, ModelFacts(found.family, why.removeprefix("family: ")))


def remember_family(model: Any, key: str, why: str) -> None:
    """Let a MODEL and all its clones carry the family of that key."""
    host.attach(model, KEY, ModelFacts(BY_KEY[key], why))


def facts(model: Any) -> ModelFacts:
    """What a MODEL is; one that another loader made is taken for what its tensors show."""
    carried = host.attached(model, KEY)
    if carried is not None:
        return carried
    tree = host.module_tree(model)
    key = "causal-ar" if hasattr(tree, "forward_block") else "wan21-t2v"
    if tree.text_embedding[0].in_features == 64:
        key = "demo"
    return ModelFacts(BY_KEY[key], "assumed, since another loader made the model")


def from_model(known: ModelFacts, taken: Mapping[str, object]) -> str:
    """What settings a shot has from its model, one sentence; empty where there are none."""
    if not taken:
        return ""
    named = ", ".join(f"{name} {_written(value)}" for name, value in taken.items())
    return f"From the model ({known.family.title}): {named}."


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
