"""Formats times for people: moments of a video, and how long something takes."""

from __future__ import annotations


def time_label(seconds: float, *, tenths: bool = True) -> str:
    """Minutes and seconds such as `1:02.5`, from an hour on `1:01:02.5`; `1:02` without tenths."""
    total = round(seconds * 10) if tenths else round(seconds) * 10
    minutes, rest = divmod(total, 600)
    hours, minutes = divmod(minutes, 60)
    before = f"{hours}:{minutes:02}" if hours else str(minutes)
    return f"{before}:{rest / 10:04.1f}" if tenths else f"{before}:{rest // 10:02}"
