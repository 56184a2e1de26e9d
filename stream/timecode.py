"""Formats times for people: moments of a video, how long something takes, and which frames."""

from __future__ import annotations

from collections.abc import Sequence

from ..attention.pieces import runs


def time_label(seconds: float, *, tenths: bool = True) -> str:
    """Minutes and seconds such as `1:02.5`, from an hour on `1:01:02.5`; `1:02` without tenths."""
    total = round(seconds * 10) if tenths else round(seconds) * 10
    minutes, rest = divmod(total, 600)
    hours, minutes = divmod(minutes, 60)
    before = f"{hours}:{minutes:02}" if hours else str(minutes)
    return f"{before}:{rest / 10:04.1f}" if tenths else f"{before}:{rest // 10:02}"


def frame_spans(frames: Sequence[int]) -> str:
    """Rising latent frames as text: `17-25, 40`."""
    spans = ((run.start, run.stop - 1) for run in runs(frames))
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in spans)


def read_spans(text: str, until: int) -> tuple[int, ...]:
    """The latent frames below `until` that `frame_spans` writes as `text`.

    ValueError for any other text, before a span of it can fill the memory.
    """
    frames: list[int] = []
    for span in text.split(", ") if text else ():
        first, last = (int(end) for end in (span.split("-") if "-" in span else (span, span)))
        if not (frames[-1] if frames else -1) < first <= last < until:
            raise ValueError(f"{span} is no span of rising frames below {until}")
        frames += range(first, last + 1)
    return tuple(frames)
