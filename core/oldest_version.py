"""The oldest ComfyUI whose nodes can be what ours are."""

from __future__ import annotations

import importlib

from ..errors import BadInput
from ..versions import version_numbers

OLDEST = "0.21.0"  # as pyproject.toml tells the registry


def check_core() -> None:
    """Raise BadInput within an older ComfyUI, before its own classes refuse ours with an error.

    A fork without a version is left to them.
    """
    try:
        version: str = importlib.import_module("comfyui_version").__version__
    except (ImportError, AttributeError):
        return
    if version_numbers(version) < version_numbers(OLDEST):
        raise BadInput(
            f"Longtake needs ComfyUI {OLDEST} or newer, and this is {version}; update ComfyUI."
        )
