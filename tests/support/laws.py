"""How laws are tried on many examples: the same ones every time."""

from __future__ import annotations

from hypothesis import settings


def examples(count: int) -> settings:
    """Try a law on `count` examples; put above `@given`."""
    return settings(max_examples=count, derandomize=True)
