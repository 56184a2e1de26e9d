"""The progress line: chunk, frames per second, time to the first frame, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from ...stream.timecode import time_label
from ...units import count_of
from ..events import BarMoved, ChunkDone, Event, FileSaved, Notice

PLAIN_INTERVAL_S = 5.0  # between lines if the output is not a terminal
WHOLE_ENDINGS = (".gif", ".webp")
"""Of files that are in their place only when the stream has ended."""


def describe(chunk: ChunkDone) -> str:
    """Describe the progress of a run in one line, without unknown values."""
    of = f"/{chunk.chunks}" if chunk.chunks else ""
    left = [f"{time_label(chunk.eta_s, tenths=False)} left"] if chunk.eta_s is not None else []
    return " · ".join([f"chunk {chunk.chunk + 1}{of}", *_facts(chunk), *left])


def summary(last: ChunkDone) -> str:
    """Summarise a finished run from its last chunk."""
    chunks = last.chunk + 1
    resumed = (
        [f"{last.resumed_from_chunk} of them from an earlier run"]
        if last.resumed_from_chunk
        else []
    )
    return ", ".join([count_of(chunks, "chunk"), *resumed, *_facts(last)])


def _facts(chunk: ChunkDone) -> list[str]:
    facts = [count_of(chunk.frames, "frame")] if chunk.frames else []
    if chunk.frames_per_s is not None:
        facts.append(f"{chunk.frames_per_s:.1f} frames/s")
    if chunk.first_frame_s is not None:
        facts.append(f"first frame after {chunk.first_frame_s:.2f} s")
    return facts


@dataclass(slots=True)
class Progress:
    """Turn events into the progress line; without chunk events, estimate from progress bars."""

    console: Console
    show: Callable[[str], None]
    now: Callable[[], float] = time.monotonic
    _bars: dict[str, tuple[int, float]] = field(default_factory=dict, init=False)
    _chunks_reported: bool = field(default=False, init=False)
    _announced: set[Path] = field(default_factory=set, init=False)

    def handle(self, event: Event) -> None:
        match event:
            case ChunkDone():
                self._chunks_reported = True
                self.show(describe(event))
            case BarMoved() if not self._chunks_reported:
                self.show(describe(self._from_bar(event)))
            case FileSaved(role="video", is_whole=False) if event.path not in self._announced:
                self._announced.add(event.path)
                whole = event.path.suffix.lower() in WHOLE_ENDINGS
                state = "complete only at the end" if whole else "playable as it grows"
                self.console.print(f"Writing {escape(str(event.path))} ({state})", highlight=False)
            case Notice():
                self.console.print(escape(event.text), highlight=False)

    def _from_bar(self, bar: BarMoved) -> ChunkDone:
        first_done, first_time = self._bars.setdefault(bar.node_id, (bar.done, self.now()))
        known = ChunkDone(chunk=bar.done - 1, chunks=bar.total)
        if bar.done <= first_done:
            return known
        rate = (bar.done - first_done) / max(self.now() - first_time, 1e-6)
        return replace(known, eta_s=(bar.total - bar.done) / rate)


@contextmanager
def progress_line(console: Console) -> Iterator[Progress]:
    """Show a self-updating line on a terminal, elsewhere a plain line every few seconds."""
    if not console.is_terminal:
        yield Progress(console, _PlainLines(console).show)
        return
    with Live(Text("starting ..."), console=console, refresh_per_second=8, transient=True) as live:
        yield Progress(console, lambda text: live.update(Text(text)))


class _PlainLines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = float("-inf")

    def show(self, text: str) -> None:
        if time.monotonic() - self._last >= PLAIN_INTERVAL_S:
            self._last = time.monotonic()
            self._console.print(text, highlight=False)
