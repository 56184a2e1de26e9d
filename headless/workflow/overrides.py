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
from .graph import Node, Workflow
from .node_spec import InputSpec, NodeSpec
from .validation import convert

COMMAND_LINE = "--set"


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
            node = find_node(workflow, override.node, f"{override.origin} {override}")
        first = seen.setdefault((node.id, override.input), override)
        if first is not override:
            return tuple(dict.fromkeys((first.target, override.target)))
    return ()


def apply(
    workflow: Workflow, overrides: Sequence[Override], specs: Mapping[str, NodeSpec]
) -> Workflow:
    """Return the workflow with the overrides, each converted to its input's type."""
    for override in overrides:
        with override.blame():
            node = find_node(workflow, override.node, f"{override.origin} {override}")
            value = _value(node, override, specs)
        workflow = workflow.with_input(node.id, override.input, value)
    return workflow


def find_node(workflow: Workflow, name: str, where: str) -> Node:
    """Return the node with that id, or the only node with that title or type.

    Raises `BadInput`, whose message begins with `where`.
    """
    if name in workflow.nodes:
        return workflow.nodes[name]
    named = [node for node in workflow.nodes.values() if name in (node.title, node.class_type)]
    if len(named) == 1:
        return named[0]
    have = ", ".join(f"{node.id} ({node.class_type})" for node in named or workflow.nodes.values())
    problem = "several nodes are called" if named else "no node is called"
    raise BadInput(f"{where}: {problem} {name!r}; use one of the ids {have}.")


def find_input(node: Node, name: str, spec: NodeSpec, where: str) -> InputSpec:
    """Return the input of a node called `name`; the message of `BadInput` begins with `where`."""
    input_spec = spec.input(name)
    if input_spec is None:
        names = ", ".join(known.name for known in spec.inputs)
        raise BadInput(f"{where}: {node.label} has no input {name!r}, only {names}.")
    return input_spec


def _value(node: Node, override: Override, specs: Mapping[str, NodeSpec]) -> object:
    spec = specs.get(node.class_type)
    if spec is None:
        return override.value  # an unknown node type: the later check reports it
    where = f"{override.origin} {override}"
    known = find_input(node, override.input, spec, where)
    return convert(where, known, override.value, foreign=spec.foreign)
