"""The tree that rollouts form which begin alike: each leaves another one at some chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ...model.vae.latent_format import frame_count
from ..timecode import time_label
from .records import Record

CHANGES = {"prompts": "prompt", "seeds": "seed", "guidance": "guidance"}


@dataclass(slots=True)
class Branch:
    """A rollout, and the chunk from which on it shares nothing more with the one it leaves."""

    record: Record
    first: int = 0
    children: list[Branch] = field(default_factory=list)


def fork_tree(found: Iterable[Record], root: Record) -> Branch:
    """All rollouts that begin as `root` does, each under the one that it shares most with.

    The trunk is the one with the fewest changes on its way, since a fork adds one.
    """
    kin = [one for one in found if one.keys and one.keys[:1] == root.keys[:1]] or [root]
    trunk, *others = sorted(kin, key=lambda one: (_changes(one), -len(one.keys), one.id))
    placed = [Branch(trunk)]
    for record in others:
        parent = max(placed, key=lambda branch: shared(branch.record, record))
        child = Branch(record, shared(parent.record, record))
        parent.children.append(child)
        placed.append(child)
    for branch in placed:
        branch.children.sort(key=lambda child: (child.first, child.record.id))
    return placed[0]


def _changes(record: Record) -> int:
    return sum(len(record.facts[name]) for name in CHANGES)


def shared(one: Record, other: Record) -> int:
    """How many chunks two rollouts have in common."""
    same = (a == b for a, b in zip(one.keys, other.keys, strict=False))
    shorter = min(len(one.keys), len(other.keys))
    return next((i for i, is_same in enumerate(same) if not is_same), shorter)


def drawn(branch: Branch, here: str | None = None, depth: int = 0) -> Iterator[str]:
    """A line per rollout, indented below the one it leaves; that of id `here` is marked."""
    record, fps = branch.record, float(branch.record.facts["fps"])
    mark = "*" if record.id == here else "-"
    length = time_label(frame_count(record.latent_frames) / fps)
    yield f"{'  ' * depth}{mark} {record.id[:8]}  {length}{_what(branch, fps)}"
    for child in branch.children:
        yield from drawn(child, here, depth + 1)


def _what(branch: Branch, fps: float) -> str:
    """Where a branch leaves its parent and with what; of a trunk, its prompt."""
    record = branch.record
    if not branch.first:
        return f"  {record.facts['prompts'][0][1]}"
    frame = record.start(branch.first)
    changes = [
        f"{word} {value}"
        for name, word in CHANGES.items()
        for start, value in record.facts[name]
        if start == frame
    ]
    at = time_label(frame_count(frame) / fps)
    return f"  from {at}: {', '.join(changes) or 'other settings'}"
