"""Joined streams of tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from longtake.stream.lazy.joined import JoinStart, JoinSteps

S = TypeVar("S")
T = TypeVar("T")


def from_start(join: Callable[[], JoinSteps[T, S]]) -> Callable[[int], JoinStart[S, T]]:
    """How readers begin where each chunk needs all before: those are made and passed over."""
    return lambda first: JoinStart(join(), unread=first)
