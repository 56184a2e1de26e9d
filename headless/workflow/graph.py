"""An API-format workflow: the content of the file, before anything is known about node types.

`load` reads the file and checks its form (JSON, node records, links). `validation.check` then
checks it against the node types of a host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from ...errors import BadInput
from ..json_text import HalfCharacter, parse_json

EXPORT_HINT = "in ComfyUI choose Workflow > Export (API) and use that file"


@dataclass(frozen=True, slots=True)
class Link:
    """A reference to output number `slot` of node `node_id`."""

    node_id: str
    slot: int


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the workflow; an input is a `Link` or a value."""

    id: str
    class_type: str
    title: str
    inputs: Mapping[str, object]

    @property
    def label(self) -> str:
        """The node's name in messages."""
        return f"node {self.id} ({self.class_type})"

    @property
    def heading(self) -> str:
        """The node's name at the beginning of a message."""
        return f"Node {self.id} ({self.class_type})"

    @property
    def links(self) -> dict[str, Link]:
        """The inputs that are links."""
        return {name: value for name, value in self.inputs.items() if isinstance(value, Link)}


@dataclass(frozen=True, slots=True)
class Workflow:
    """A parsed workflow; never changed in place."""

    name: str
    nodes: Mapping[str, Node]

    def with_input(self, node_id: str, name: str, value: object) -> Workflow:
        """Return a copy in which one input has another value."""
        node = self.nodes[node_id]
        changed = replace(node, inputs={**node.inputs, name: value})
        return replace(self, nodes={**self.nodes, node_id: changed})

    def with_nodes(self, nodes: Mapping[str, Node]) -> Workflow:
        """Return a copy with these nodes."""
        return replace(self, nodes=nodes)

    def to_prompt(self) -> dict[str, object]:
        """Return the form that the host's executor and POST /prompt accept."""
        return {
            node.id: {
                "class_type": node.class_type,
                "inputs": {name: _to_json(value) for name, value in node.inputs.items()},
                "_meta": {"title": node.title},
            }
            for node in self.nodes.values()
        }


def load(path: Path) -> Workflow:
    """Read an API-format file; raise `BadInput` if it is not one."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin with a mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadInput(f"Cannot read workflow {path}: {reason}; check the path.") from error
    try:
        content = parse_json(text)
    except HalfCharacter as error:
        raise BadInput(f"{path} {error}.") from error
    except ValueError as error:
        raise BadInput(f"{path} is not valid JSON ({error}); {EXPORT_HINT}.") from error
    return parse(content, str(path))


def parse(content: object, name: str) -> Workflow:
    """Build the workflow from decoded JSON; `name` appears in messages."""
    if not isinstance(content, dict) or not content:
        raise BadInput(f"{name} has no nodes; {EXPORT_HINT}.")
    if isinstance(content.get("nodes"), list):
        raise BadInput(f"{name} is in the canvas format, which has no run order; {EXPORT_HINT}.")
    return Workflow(
        name, {str(key): _node(str(key), value, name) for key, value in content.items()}
    )


def _node(node_id: str, record: object, name: str) -> Node:
    if not isinstance(record, dict) or not isinstance(record.get("class_type"), str):
        raise BadInput(f"Node {node_id} in {name} has no class_type; {EXPORT_HINT}.")
    inputs = record.get("inputs", {})
    label = f"Node {node_id} ({record['class_type']})"
    if not isinstance(inputs, dict):
        raise BadInput(f"{label} in {name}: inputs must be an object; {EXPORT_HINT}.")
    meta = record.get("_meta")
    title = str(meta.get("title", "")) if isinstance(meta, dict) else ""
    parsed = {str(key): _input(label, str(key), value) for key, value in inputs.items()}
    return Node(node_id, cast("str", record["class_type"]), title, parsed)


def _input(label: str, name: str, value: object) -> object:
    if not isinstance(value, list):
        return value
    match value:
        case [str() | int() as node_id, int() as slot] if not isinstance(slot, bool) and slot >= 0:
            return Link(str(node_id), slot)
    raise BadInput(
        f'{label}, input {name}: a list must be a link ["node id", output number]; got {value!r}.'
    )


def _to_json(value: object) -> object:
    return [value.node_id, value.slot] if isinstance(value, Link) else value
