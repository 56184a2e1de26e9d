"""Formats times for people."""

from __future__ import annotations


def time_label(seconds: float) -> str:
    """Minutes and seconds, such as `1:02.5`."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"
