"""What a node type takes and gives, in one form for both hosts.

The stand-in derives it from our V3 schemas, the real core's child process from the core's own node
table; validation and `--set` work on this form only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

WIDGETS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input; `type` may be several types joined by commas, `*` takes anything."""

    name: str
    type: str
    required: bool = True
    default: object = None
    minimum: float | None = None
    maximum: float | None = None
    options: tuple[object, ...] = ()

    @property
    def is_widget(self) -> bool:
        """Whether the input may hold a value written in the workflow instead of a link."""
        return self.type in WIDGETS

    def accepts(self, given: str) -> bool:
        """Whether an output of type `given` may be linked here."""
        if "*" in (self.type, given):
            return True
        return not set(self.type.split(",")).isdisjoint(given.split(","))


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node type. `foreign` ones (not this pack's) may hold inputs that their table lacks."""

    class_type: str
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[str, ...] = ()
    is_output: bool = False
    foreign: bool = False

    def input(self, name: str) -> InputSpec | None:
        """The input called `name`, or None."""
        return next((spec for spec in self.inputs if spec.name == name), None)


def node_from_json(record: Mapping[str, object]) -> NodeSpec:
    """Read what `core_child` writes: the fields of `NodeSpec`, inputs as records."""
    inputs = cast("list[dict[str, object]]", record["inputs"])
    return NodeSpec(
        class_type=str(record["class_type"]),
        inputs=tuple(_input_from_json(one) for one in inputs),
        outputs=tuple(cast("list[str]", record["outputs"])),
        is_output=bool(record["is_output"]),
        foreign=bool(record["foreign"]),
    )


def _input_from_json(record: Mapping[str, object]) -> InputSpec:
    return InputSpec(
        name=str(record["name"]),
        type=str(record["type"]),
        required=bool(record["required"]),
        default=record["default"],
        minimum=cast("float | None", record["minimum"]),
        maximum=cast("float | None", record["maximum"]),
        options=tuple(cast("list[object]", record["options"])),
    )
