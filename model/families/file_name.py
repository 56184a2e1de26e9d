"""The family that the name of a file and of its folders says."""

from __future__ import annotations

import re
from pathlib import Path

from .family import Family
from .folder import plain_name
from .table import FAMILIES


def family_by_name(path: Path, shape: str) -> tuple[Family, str] | None:
    """The row that a path names latest (files decide before folders), else the first one.

    None where it names no family of this architecture. The second part is the reason.
    """
    plain = plain_name(path)
    best: tuple[Family, re.Match[str]] | None = None
    for row in FAMILIES:
        for match in re.finditer(row.named, plain) if row.named and row.shape == shape else ():
            if best is None or match.end() > best[1].end():
                best = row, match
    if best is None:
        return None
    return best[0], f"family: its name has {best[1][0]!r} (weights do not tell)"
