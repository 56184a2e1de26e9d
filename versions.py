"""Version numbers, to compare."""

from __future__ import annotations

import re


def version_numbers(version: str) -> list[int]:
    """The first three numbers of the release in `version`; those that it lacks are 0.

    A candidate or a development build counts as its release.
    """
    release = re.search(r"\d+(\.\d+)*", version)
    numbers: list[str] = release[0].split(".") if release else []
    return [int(number) for number in (*numbers, "0", "0", "0")[:3]]
