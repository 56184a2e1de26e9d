"""`--set NODE.INPUT=VALUE`: change one input of a workflow from the command line.

NODE is the node's id, or its title or type where only one node has it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import BadInput
from .node_spec import NodeSpec
from .validation import convert
from .workflow import Node, Workflow


@dataclass(frozen=True, slots=True)
class Override:
    """One `--set`, as written."""

    node: str
    input: str
    text: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}={self.text}"


def parse_override(text: str) -> Override:
    """Split NODE.INPUT=VALUE; the value may hold dots and equal signs."""
    target, equals, value = text.partition("=")
    node, dot, name = target.rpartition(".")
    if not (equals and dot and node and name):
        raise BadInput(f"--set {text!r} is not NODE.INPUT=VALUE, for example --set 4.seed=7.")
    return Override(node.strip(), name.strip(), value)


def grid(overrides: Sequence[Override]) -> list[tuple[Override, ...]]:
    """Every combination, taking overrides of the same input as alternatives."""
    groups: dict[tuple[str, str], list[Override]] = {}
    for override in overrides:
        groups.setdefault((override.node, override.input), []).append(override)
    return list(itertools.product(*groups.values()))


def apply(
    workflow: Workflow, overrides: Sequence[Override], specs: Mapping[str, NodeSpec]
) -> Workflow:
    """The workflow with the overrides, each converted to its input's type."""
    for override in overrides:
        node = _find(workflow, override)
        workflow = workflow.with_input(node.id, override.input, _value(node, override, specs))
    return workflow


def _find(workflow: Workflow, override: Override) -> Node:
    if override.node in workflow.nodes:
        return workflow.nodes[override.node]
    named = [n for n in workflow.nodes.values() if override.node in (n.title, n.class_type)]
    if len(named) == 1:
        return named[0]
    have = ", ".join(f"{node.id} ({node.class_type})" for node in named or workflow.nodes.values())
    problem = "several nodes are called" if named else "no node is called"
    raise BadInput(f"--set {override}: {problem} {override.node!r}; use one of the ids {have}.")


def _value(node: Node, override: Override, specs: Mapping[str, NodeSpec]) -> object:
    spec = specs.get(node.class_type)
    if spec is None:
        return override.text  # an unknown node type: the check that follows says so
    known = spec.input(override.input)
    if known is None:
        names = ", ".join(one.name for one in spec.inputs)
        raise BadInput(
            f"--set {override}: {node.label} has no input {override.input!r}, only {names}."
        )
    return convert(f"--set {override}", known, override.text, foreign=spec.foreign)
