"""The package under its name, for programs that start in a process of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def folder_of_package() -> Iterator[Path]:
    """A folder in which `python -m longtake...` runs this checkout, whatever its own name."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "longtake").symlink_to(ROOT, target_is_directory=True)
        yield Path(name)
