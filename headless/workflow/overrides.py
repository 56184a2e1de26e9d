"""`--set NODE.INPUT=VALUE`, and cells of a table: change one input of a workflow.

NODE is a node's id, or its title or type if only one node has it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from ...characters import half_character
from ...errors import BadInput
from ..usage import as_wrong_usage
from .graph import Link, Node, Workflow
from .node_spec import InputSpec, NodeSpec
from .validation import NUMBER, convert

COMMAND_LINE = "--set"
TYPES = {bool: "BOOLEAN", int: NUMBER, float: NUMBER, str: "STRING"}  # by the workflow's own value


@dataclass(frozen=True, slots=True)
class Override:
    """One input and its new value, as written; `origin` names the place in messages."""

    node: str
    input: str
    value: object
    origin: str = COMMAND_LINE

    @property
    def target(self) -> str:
        return f"{self.node}.{self.input}"

    def __str__(self) -> str:
        return f"{self.target}={self.value}"

    def blame(self) -> AbstractContextManager[None]:
        """Make a BadInput of the block wrong usage, if the command line gives this value."""
        return as_wrong_usage() if self.origin == COMMAND_LINE else nullcontext()


def parse_override(text: str) -> Override:
    """Split NODE.INPUT=VALUE; the value may contain dots and equal signs."""
    target, equals, value = text.partition("=")
    split = split_target(target)
    if half_character(text):
        raise BadInput(f"{text!r} is not Unicode text; write it in UTF-8.")
    if not (equals and split):
        raise BadInput(f"{text!r} is not NODE.INPUT=VALUE, for example --set 4.seed=7.")
    return Override(*split, value)


def split_target(target: str) -> tuple[str, str] | None:
    """Return NODE and INPUT of NODE.INPUT, or None for another form."""
    node, _, name = (part.strip() for part in target.rpartition("."))
    return (node, name) if node and name else None


def grid(overrides: Sequence[Override]) -> list[tuple[Override, ...]]:
    """Return every combination, with overrides of the same input as alternatives."""
    groups: dict[tuple[str, str], list[Override]] = {}
    for override in overrides:
        groups.setdefault((override.node, override.input), []).append(override)
    return list(itertools.product(*groups.values()))


def doubled(workflow: Workflow, overrides: Sequence[Override]) -> tuple[str, ...]:
    """Return the names of the first input that is set twice; nothing where each is set once."""
    seen: dict[tuple[str, str], Override] = {}
    for override in overrides:
        with override.blame():
            where = f"{override.origin} {override}"
            node, name = find_target(workflow, override.node, override.input, where)
        first = seen.setdefault((node.id, name), override)
        if first is not override:
            return tuple(dict.fromkeys((first.target, override.target)))
    return ()


def apply(
    workflow: Workflow, overrides: Sequence[Override], specs: Mapping[str, NodeSpec]
) -> Workflow:
    """Return the workflow with the overrides, each converted to its input's type."""
    for override in overrides:
        with override.blame():
            where = f"{override.origin} {override}"
            node, name = find_target(workflow, override.node, override.input, where)
            value = _value(where, node, name, override.value, specs)
        workflow = workflow.with_input(node.id, name, value)
    return workflow


def find_target(workflow: Workflow, node: str, name: str, where: str) -> tuple[Node, str]:
    """Return the node that `node.name` means, and the input's name there.

    An input that comes with a choice has a dot in its name: `resize_type.width` of node 90 gives
    `90.resize_type` here, unless a node is called so. Errors are those of `find_node`.
    """
    node_id, _, choice = node.partition(".")
    if choice and node_id in workflow.nodes and not _named(workflow, node):
        return workflow.nodes[node_id], f"{choice}.{name}"
    return find_node(workflow, node, where), name


def _named(workflow: Workflow, name: str) -> list[Node]:
    """The nodes with that title or type; in large or small letters, if none is written so."""
    nodes = workflow.nodes.values()
    same = [node for node in nodes if name in (node.title, node.class_type)]
    folded = name.casefold()
    return same or [
        node for node in nodes if folded in (node.title.casefold(), node.class_type.casefold())
    ]


def find_node(workflow: Workflow, name: str, where: str) -> Node:
    """Return the node with that id, or the only node with that title or type.

    Raises `BadInput`, whose message begins with `where`.
    """
    if name in workflow.nodes:
        return workflow.nodes[name]
    named = _named(workflow, name)
    if len(named) == 1:
        return named[0]
    nodes = named or workflow.nodes.values()
    have = ", ".join(f"{node.id} ({node.title or node.class_type})" for node in nodes)
    problem = "several nodes are called" if named else "no node is called"
    raise BadInput(f"{where}: {problem} {name!r}; use one of the ids {have}.")


def find_input(node: Node, name: str, spec: NodeSpec, where: str) -> InputSpec:
    """Return the input of a node called `name`; the message of `BadInput` begins with `where`."""
    input_spec = spec.input(name) or _unlisted_input(node, name, spec)
    if input_spec is None:
        names = ", ".join(known.name for known in spec.inputs)
        raise BadInput(f"{where}: {node.label} has no input {name!r}, only {names}.")
    return input_spec


def _unlisted_input(node: Node, name: str, spec: NodeSpec) -> InputSpec | None:
    """An input that the workflow has and a foreign node does not list, or None."""
    value = node.inputs.get(name)
    if not spec.foreign or name not in node.inputs or isinstance(value, Link):
        return None
    return InputSpec(name, TYPES.get(type(value), "*"))


def _value(
    where: str, node: Node, name: str, value: object, specs: Mapping[str, NodeSpec]
) -> object:
    spec = specs.get(node.class_type)
    if spec is None:
        return value  # an unknown node type: the later check reports it
    return convert(where, find_input(node, name, spec, where), value, foreign=spec.foreign)
