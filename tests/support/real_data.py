"""Genuine videos and latents beside the checkout, which are never part of it."""

from __future__ import annotations

from pathlib import Path

import pytest


def real(name: str) -> Path:
    """`shared/data/NAME` in a folder above the checkout; without it the test is skipped."""
    for folder in Path(__file__).resolve().parents:
        path = folder / "shared" / "data" / name
        if path.is_file():
            return path
    pytest.skip(f"needs shared/data/{name} beside the checkout")
