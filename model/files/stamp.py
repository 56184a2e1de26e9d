"""Tells whether the files of a model were written again, without reading them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .safetensors_file import files_of

Stamp = tuple[tuple[str, int, int], ...]
"""Name, time of change in nanoseconds, and bytes of each file."""


def stamp(path: Path, beside: Iterable[Path] = ()) -> Stamp:
    """The stamp of one file, or of all shards of its model, and of the files read `beside` it."""
    paths = (path for path in (*files_of(path), *beside) if path.is_file())
    facts = ((path.name, path.stat()) for path in paths)
    return tuple((name, fact.st_mtime_ns, fact.st_size) for name, fact in facts)
