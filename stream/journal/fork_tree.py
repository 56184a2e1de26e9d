"""The tree of rollouts that share their first chunk: each one leaves another one at some chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ...model.vae.latent_format import frame_count
from ...units import count_of
from ..timecode import time_label
from .records import Record

CHANGES = {"prompts": "prompt", "seeds": "seed", "guidance": "guidance"}


@dataclass(slots=True)
class Branch:
    """A rollout; `first` is the first chunk that it does not share with its parent."""

    record: Record
    first: int = 0
    children: list[Branch] = field(default_factory=list)


def fork_tree(records: Iterable[Record], root: Record) -> Branch:
    """Arrange all rollouts that begin like `root`, each under the one it shares most chunks with.

    The trunk is the rollout with the fewest changes, since every fork adds one.
    """
    related = [r for r in records if r.keys and r.keys[:1] == root.keys[:1]] or [root]
    trunk, *others = sorted(related, key=lambda r: (_changes(r), -len(r.keys), r.id))
    branches = [Branch(trunk)]
    for record in others:
        parent = max(branches, key=lambda branch: shared_chunks(branch.record, record))
        child = Branch(record, shared_chunks(parent.record, record))
        parent.children.append(child)
        branches.append(child)
    for branch in branches:
        branch.children.sort(key=lambda child: (child.first, child.record.id))
    return branches[0]


def _changes(record: Record) -> int:
    return sum(len(record.facts[name]) for name in CHANGES)


def shared_chunks(first: Record, second: Record) -> int:
    """The number of leading chunks that two rollouts have in common."""
    same = (a == b for a, b in zip(first.keys, second.keys, strict=False))
    shorter = min(len(first.keys), len(second.keys))
    return next((i for i, is_same in enumerate(same) if not is_same), shorter)


def render_tree(branch: Branch, here: str | None = None, depth: int = 0) -> Iterator[str]:
    """One line per rollout, indented below its parent; the rollout `here` gets a star.

    Chunks that others replaced have a line of their own, below the rollout that keeps them.
    """
    record, fps = branch.record, float(branch.record.facts["fps"])
    mark = "*" if record.id == here else "-"
    length = time_label(frame_count(record.latent_frames) / fps)
    yield f"{'  ' * depth}{mark} {record.id[:8]}  {length}{_describe(branch)}"
    if record.replaced:
        yield f"{'  ' * depth}  ~ {count_of(record.replaced, 'chunk')} replaced, still on disk"
    for child in branch.children:
        yield from render_tree(child, here, depth + 1)


def last_change(record: Record) -> str:
    """Where a rollout last changes and how; empty if it stays as it began.

    A change that lies after its last frame changes nothing.
    """
    starts = [start for name in CHANGES for start, _ in record.facts[name]]
    last = max((start for start in starts if start < record.latent_frames), default=0)
    return _changes_at(record, last) if last else ""


def _describe(branch: Branch) -> str:
    """Where a branch leaves its parent and what changes there; for the trunk, its prompt."""
    record = branch.record
    if not branch.first:
        return f"  {record.facts['prompts'][0][1]}"
    return f"  {_changes_at(record, record.start(branch.first))}"


def _changes_at(record: Record, frame: int) -> str:
    """What changes at a latent frame, after its time."""
    changes = [
        f"{word} {value}"
        for name, word in CHANGES.items()
        for start, value in record.facts[name]
        if start == frame
    ]
    at = time_label(frame_count(frame) / float(record.facts["fps"]))
    return f"from {at}: {', '.join(changes) or 'other settings'}"
