"""Version numbers, to compare."""

from __future__ import annotations

import re


def version_numbers(version: str) -> list[int]:
    """The first three numbers in `version`; those that it lacks are 0."""
    return [int(number) for number in (*re.findall(r"\d+", version), 0, 0, 0)[:3]]
