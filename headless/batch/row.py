"""Rows: every workflow, with every combination of `--set` values, with every line of the table."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..workflow.graph import Workflow
from ..workflow.node_spec import NodeSpec
from ..workflow.overrides import Override, apply, grid
from ..workflow.validation import check
from .params import Table
from .record import Record

REMEDY = "install the pack that has it on the server"
KEY_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Order:
    """What to run."""

    workflows: tuple[Path, ...]
    overrides: tuple[Override, ...]
    table: Table | None

    def combinations(self) -> list[tuple[Override, ...]]:
        """The values of each row: those set for all, in a grid, then those of the table's line."""
        lines = self.table.rows if self.table else ((),)
        return [(*values, *line) for values in grid(self.overrides) for line in lines]


@dataclass(frozen=True, slots=True)
class Row:
    """One run: what became of it, and the workflow as POST /prompt takes it."""

    record: Record
    prompt: Mapping[str, object]


def build_rows(
    workflows: Sequence[Workflow], order: Order, specs: Mapping[str, NodeSpec]
) -> Iterator[Row]:
    """All rows of the loaded workflows, checked against `specs`; the first fault is a BadInput."""
    seen: Counter[str] = Counter()
    number = 0
    for workflow in workflows:
        if order.table:
            order.table.check(workflow, specs)
        for values in order.combinations():
            number += 1
            checked = check(apply(workflow, values, specs), specs, REMEDY)
            prompt = checked.to_prompt()
            content = _content(prompt)
            key = _key(content, seen[content])
            seen[content] += 1
            stem = Path(workflow.name).stem
            yield Row(
                Record(
                    number, key, workflow.name, {one.target: one.value for one in values},
                    f"{number:03}-{stem}-{key[:8]}",
                ),
                prompt,
            )  # fmt: skip


def _content(prompt: Mapping[str, object]) -> str:
    """What decides about the result: titles do not."""
    nodes = {
        node_id: {name: value for name, value in node.items() if name != "_meta"}
        for node_id, node in prompt.items()
        if isinstance(node, dict)
    }
    return json.dumps(nodes, sort_keys=True)


def _key(content: str, occurrence: int) -> str:
    """Equal rows are told apart by how many like it came before."""
    return hashlib.sha256(f"{occurrence} {content}".encode()).hexdigest()[:KEY_CHARACTERS]
