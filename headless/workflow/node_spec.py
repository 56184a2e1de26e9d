"""A node type's inputs and outputs, in one form for both hosts.

The stand-in derives it from our V3 schemas. A real core, in a child process or behind its server,
sends it as records of /object_info. Validation and `--set` use this form only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from ...model.files.known_files import FOLDERS

HOSTS_OWN = re.compile(r"COMFY_[A-Z]+_V[0-9]+")
"""Types such as COMFY_MATCHTYPE_V3 and COMFY_AUTOGROW_V3, whose rules only the host knows."""
WIDGETS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input; `type` may be several types joined by commas, and `*` accepts anything.

    `folder` is the model folder whose files are its `options`, if it is one. One that
    `takes_uploads` lists the files of one folder, and takes those of others too.
    """

    name: str
    type: str
    required: bool = True
    default: object = None
    minimum: float | None = None
    maximum: float | None = None
    options: tuple[object, ...] = ()
    folder: str = ""
    takes_uploads: bool = False

    @property
    def is_widget(self) -> bool:
        """Whether the input may hold a value instead of a link."""
        return self.type in WIDGETS

    @property
    def is_free(self) -> bool:
        """Whether the host alone can say what this input needs, and under which names."""
        return bool(HOSTS_OWN.fullmatch(self.type))

    def accepts(self, type_name: str) -> bool:
        """Return whether an output of type `type_name` may be linked to this input."""
        if "*" in (self.type, type_name) or self.is_free or HOSTS_OWN.fullmatch(type_name):
            return True
        return not set(self.type.split(",")).isdisjoint(type_name.split(","))


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node type. A `foreign` node (not of this pack) may have inputs missing from `inputs`."""

    class_type: str
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[str, ...] = ()
    is_output: bool = False
    foreign: bool = False

    def input(self, name: str) -> InputSpec | None:
        """Return the input called `name`, or None."""
        return next((spec for spec in self.inputs if spec.name == name), None)


def node_from_object_info(
    class_type: str, record: Mapping[str, object], *, foreign: bool
) -> NodeSpec:
    """Read a node type in the form of ComfyUI's /object_info."""
    inputs = cast("Mapping[str, Mapping[str, list[object]]]", record["input"])
    return NodeSpec(
        class_type=class_type,
        inputs=tuple(
            _input(class_type, name, declared, required=section == "required")
            for section in ("required", "optional")
            for name, declared in inputs.get(section, {}).items()
        ),
        outputs=tuple(
            "COMBO" if isinstance(output, list) else str(output)
            for output in cast("list[object]", record["output"])
        ),
        is_output=bool(record["output_node"]),
        foreign=foreign,
    )


def _input(class_type: str, name: str, declared: list[object], *, required: bool) -> InputSpec:
    """Read an input: a type and an optional record of options; a list of choices may be the
    type.
    """
    kind = declared[0]
    options = cast("Mapping[str, object]", declared[1] if len(declared) > 1 else {})
    choices = kind if isinstance(kind, list) else options.get("options") or []
    return InputSpec(
        name=name,
        type="COMBO" if isinstance(kind, list) else str(kind),
        required=required,
        default=options.get("default"),
        minimum=cast("float | None", options.get("min")),
        maximum=cast("float | None", options.get("max")),
        options=tuple(
            choice
            for choice in cast("list[object]", choices)
            if isinstance(choice, str | int | float)
        ),
        folder=FOLDERS.get((class_type, name), ""),
        takes_uploads=any(option.endswith("_upload") for option in options),
    )
