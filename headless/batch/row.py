"""The rows of a batch: each workflow with each combination of `--set` values and table lines."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...characters import cut_to_bytes
from ...errors import BadInput
from ..usage import as_wrong_usage
from ..workflow.graph import Workflow
from ..workflow.node_spec import NodeSpec
from ..workflow.overrides import COMMAND_LINE, Override, apply, find_target, grid
from ..workflow.validation import check
from .params import Table
from .record import Record

REMEDY = "install its node pack on the server"
KEY_CHARACTERS = 32
STEM_BYTES = 120  # of a workflow's name in its rows' folders: file systems allow 255, with ours


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """The workflows, overrides and table of a batch."""

    workflows: tuple[Path, ...]
    overrides: tuple[Override, ...]
    table: Table | None

    def combinations(self) -> list[tuple[Override, ...]]:
        """Return the values of each row: the grid of --set values, then the table line's."""
        lines = self.table.rows if self.table else ((),)
        return [(*values, *line) for values in grid(self.overrides) for line in lines]

    def check_names(self, workflow: Workflow) -> None:
        """Refuse an input that is set twice in a row, so that one value would have no effect.

        A --set fills the empty cells of a column; several of them make a grid, which no cell may
        undo.
        """
        set_targets = [(override.node, override.input) for override in self.overrides]
        with as_wrong_usage():
            set_inputs = _inputs(set_targets, workflow, COMMAND_LINE)
        if self.table is None:
            return
        for target, names in _inputs(self.table.columns, workflow, self.table.name).items():
            if len(set_inputs.get(target, ())) > 1:
                raise BadInput(
                    f"--set {names[0]} is repeated, and {self.table.name} has that column; keep "
                    "one of the two."
                )


@dataclass(frozen=True, slots=True)
class Row:
    """One run: its record, and a function that makes its workflow for POST /prompt.

    The workflow is made when the row's turn comes: ten thousand of them fill the memory.
    """

    record: Record
    prompt: Callable[[], Mapping[str, Any]]


def _inputs(
    targets: Sequence[tuple[str, str]], workflow: Workflow, where: str
) -> dict[tuple[str, str], list[str]]:
    """The names that `targets` have for each (node id, input); BadInput if they differ."""
    inputs = defaultdict[tuple[str, str], list[str]](list)
    for node, input_name in targets:
        name = f"{node}.{input_name}"
        its_node, own_name = find_target(workflow, node, input_name, f"{where} {name}")
        known = inputs[its_node.id, own_name]
        if known and name not in known:
            raise BadInput(
                f"{where}: {known[0]} and {name} are one input of {workflow.name}; keep one."
            )
        known.append(name)
    return inputs


def build_rows(
    workflows: Sequence[Workflow],
    spec: BatchSpec,
    specs: Mapping[str, NodeSpec],
    remedy: str = REMEDY,
) -> Iterator[Row]:
    """Yield all rows of the loaded workflows, checked against `specs`; raise BadInput at a fault.

    `remedy` says what to do about an unknown node type.
    """
    seen: Counter[str] = Counter()
    number = 0
    for workflow in workflows:
        if spec.table:
            spec.table.check(workflow, specs)
        spec.check_names(workflow)
        for values in spec.combinations():
            number += 1
            prompt = partial(_prompt, workflow, values, specs, remedy)
            content = _content(prompt())
            key = _key(content, seen[content])
            seen[content] += 1
            inputs = {override.target: override.value for override in values}
            stem = cut_to_bytes(Path(workflow.name).stem, STEM_BYTES)
            folder = f"{number:03}-{stem}-{key[:8]}"
            yield Row(Record(number, key, workflow.name, inputs, folder), prompt)


def _prompt(
    workflow: Workflow, values: Sequence[Override], specs: Mapping[str, NodeSpec], remedy: str
) -> Mapping[str, object]:
    return check(apply(workflow, values, specs), specs, remedy).to_prompt()


def _content(prompt: Mapping[str, object]) -> str:
    """Return everything that determines the result; titles do not."""
    nodes = {
        node_id: {name: value for name, value in node.items() if name != "_meta"}
        for node_id, node in prompt.items()
        if isinstance(node, dict)
    }
    return json.dumps(nodes, sort_keys=True)


def _key(content: str, occurrence: int) -> str:
    """Return a row's key; `occurrence` distinguishes equal rows."""
    return hashlib.sha256(f"{occurrence} {content}".encode()).hexdigest()[:KEY_CHARACTERS]
