"""The family that the name of a file and of its folders says."""

from __future__ import annotations

import re
from pathlib import Path

from .family import Family
from .folder import plain_name
from .table import FAMILIES

_BIDIRECTIONAL = re.compile(r"bi_?direct")  # CausVid publishes such stages beside its causal model


def family_by_name(path: Path, shape: str, width: int) -> tuple[Family, str] | None:
    """The row that a path names latest (files decide before folders), else the first one.

    None where it names no family of this architecture and width. The second part is the reason.
    """
    plain = plain_name(path)
    sees_all = _BIDIRECTIONAL.search(plain) is not None
    rows = [row for row in FAMILIES if row.named and row.shape == shape and row.width in (0, width)]
    best: tuple[Family, re.Match[str]] | None = None
    for row in (row for row in rows if not (sees_all and row.causal)):
        for match in re.finditer(row.named, plain):
            if best is None or match.end() > best[1].end():
                best = row, match
    if best is None:
        return None
    return best[0], f"family: its name has {best[1][0]!r} (weights do not tell)"
