"""The oldest ComfyUI whose nodes can be what ours are."""

from __future__ import annotations

import importlib
import re

from .errors import BadInput

OLDEST = "0.21.0"  # as pyproject.toml tells the registry


def check_core() -> None:
    """Raise BadInput within an older ComfyUI, before its own classes refuse ours with an error.

    A fork without a version is left to them.
    """
    try:
        version: str = importlib.import_module("comfyui_version").__version__
    except (ImportError, AttributeError):
        return
    if _parts(version) < _parts(OLDEST):
        raise BadInput(
            f"Longtake needs ComfyUI {OLDEST} or newer, and this is {version}; update ComfyUI."
        )


def _parts(version: str) -> list[int]:
    """Three numbers; parts that a version does not write are 0."""
    return [int(part) for part in (*re.findall(r"\d+", version), 0, 0, 0)[:3]]
