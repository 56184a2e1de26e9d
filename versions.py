"""The versions of this pack and of others, and version numbers to compare."""

from __future__ import annotations

import functools
import re
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).with_name("pyproject.toml")


@functools.cache
def pack_version() -> str:
    """Return this pack's version, from pyproject.toml or else from the installed package.

    ComfyUI's Python does not have the pack installed.
    """
    text = PROJECT.read_text(encoding="utf-8") if PROJECT.is_file() else ""
    match = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    return match[1] if match else version_of("longtake") or "unknown version"


def version_of(package: str) -> str | None:
    """The version of an installed package, or None; a copy that nobody installed has none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def version_numbers(version: str) -> list[int]:
    """The first three numbers of the release in `version`; those that it lacks are 0.

    A candidate or a development build counts as its release.
    """
    release = re.search(r"\d+(\.\d+)*", version)
    numbers: list[str] = release[0].split(".") if release else []
    return [int(number) for number in (*numbers, "0", "0", "0")[:3]]
