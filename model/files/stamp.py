"""Tells whether the files of a model were written again, without reading them."""

from __future__ import annotations

from pathlib import Path

from .safetensors_file import siblings

Stamp = tuple[tuple[str, int, int], ...]
"""Name, time of change in nanoseconds, and bytes of each file."""


def stamp(path: Path) -> Stamp:
    """The stamp of one file, or of all shards of its model."""
    return _stamp(siblings(path))


def folder_stamp(folder: Path) -> Stamp:
    """The stamp of all files in a folder."""
    return _stamp(sorted(folder.iterdir()))


def _stamp(paths: list[Path]) -> Stamp:
    facts = ((path.name, path.stat()) for path in paths if path.is_file())
    return tuple((name, fact.st_mtime_ns, fact.st_size) for name, fact in facts)
