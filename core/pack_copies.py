"""The copies of this pack in a ComfyUI, which loads every one of them.

The nodes are then those of the copy that loads last, and the player's routes those of the first.
"""

from __future__ import annotations

import re
from pathlib import Path

CUSTOM_NODES = "custom_nodes"
OFF = ".disabled"  # the end of a folder's name that ComfyUI passes over


def pack_copies(folder: Path) -> list[Path]:
    """Each copy of Longtake that ComfyUI loads from its folder of packs, by name."""
    try:
        places = sorted(folder.iterdir())
    except OSError:
        return []  # a folder that cannot be listed holds nothing that ComfyUI could load
    return [place for place in places if not place.name.endswith(OFF) and _is_ours(place)]


def _is_ours(place: Path) -> bool:
    """Whether a pack's own description calls it longtake; ComfyUI loads folders with a start."""
    project = place / "pyproject.toml"
    try:
        if not (place / "__init__.py").is_file():
            return False
        text = project.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False  # no description, or none that this user may read
    return re.search(r"""^name\s*=\s*["']longtake["']\s*$""", text, re.MULTILINE) is not None
