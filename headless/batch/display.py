"""The terminal display of a batch on servers: active rows with progress bars, and totals."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ...stream.timecode import time_label
from .record import DONE, FAILED, Record
from .row import Row

REPEAT_S = 60.0
"""How often a disk that goes on refusing is told."""


@dataclass(slots=True)
class Lane:
    """An active row: its place in its server's queue, and its progress."""

    record: Record
    place: str = "queued"
    done: int = 0
    total: int = 0
    began: tuple[int, float] | None = None

    def eta_s(self, now: float) -> float | None:
        """Return the seconds left at the rate since the first bar."""
        if self.began is None or self.done <= self.began[0]:
            return None
        rate = (self.done - self.began[0]) / max(now - self.began[1], 1e-6)
        return (self.total - self.done) / rate


@dataclass(slots=True)
class Display:
    """The state of the display, updated by the workers; every change calls `refresh`."""

    console: Console
    records: Sequence[Record]
    now: Callable[[], float] = time.monotonic
    refresh: Callable[[], None] = lambda: None
    lanes: dict[int, Lane] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    began: float = field(default=0.0, init=False)
    _ends: Counter[str] = field(default_factory=Counter, init=False)
    _ended_before: int = field(default=0, init=False)
    _varying: frozenset[str] = field(default=frozenset(), init=False)
    _refused_at: float | None = field(default=None, init=False)
    _refusals: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._ends = Counter(row.state for row in self.records if row.state in (DONE, FAILED))
        self._varying = _varying_names(self.records)
        self.began, self._ended_before = self.now(), self._ended
        if self._ended:
            self._print(f"{self._ended} of {len(self.records)} rows are finished already.")

    def set_place(self, row: Row, place: str) -> None:
        """Set whether a row waits in its server's queue (pending) or runs."""
        lane = self.lanes.setdefault(row.record.number, Lane(row.record))
        lane.place = place
        self.away.discard(row.record.server or "")
        self.refresh()

    def set_progress(self, row: Row, done: int, total: int) -> None:
        """Set a row's finished chunks (or steps of a node) and their total."""
        lane = self.lanes.setdefault(row.record.number, Lane(row.record))
        if lane.total != total or done < lane.done:
            lane.began = None
        lane.place, lane.done, lane.total = "running", done, total
        lane.began = lane.began or (done, self.now())
        self.refresh()

    def leave(self, record: Record) -> None:
        """Remove a row that has no worker any more."""
        self.lanes.pop(record.number, None)
        self.refresh()

    def finish(self, record: Record) -> None:
        """Print the line of a row that is done or has failed."""
        self.lanes.pop(record.number, None)
        self._ends[record.state] += 1
        count = f"[{self._ended}/{len(self.records)}]"
        if record.state == FAILED:
            self._print(f"{count} {record.label} failed: {record.error}", "red")
        else:
            took = (
                f" in {time_label(record.seconds, tenths=False)}"
                if record.seconds is not None
                else ""
            )
            self._print(f"{count} {record.label} done{took} on {record.server}")
        self.refresh()

    def hand_on(self, record: Record, server: str) -> None:
        """Print that a row failed at a worker, and waits for another one."""
        self.leave(record)
        why = f"{record.label} failed at {server}: {record.error}"
        self._print(f"{why} Another worker tries it once.", "yellow")

    def mark_lost(self, server: str, reason: str) -> None:
        """Print once, until it answers again, that a server does not answer."""
        if server not in self.away:
            self.away.add(server)
            self._print(f"{server} does not answer ({reason}); still trying.", "yellow")

    def mark_refused(self, reason: str) -> None:
        """Print, once in `REPEAT_S`, that this machine's disk refuses what a worker brings."""
        if self._refused_at is None or self.now() - self._refused_at >= REPEAT_S:
            self._refused_at = self.now()
            self._print(f"{reason} Workers wait and ask again.", "yellow")

    def refuse(self, reason: str) -> None:
        """Print once that workers cannot join for a reason."""
        if reason not in self._refusals:
            self._refusals.add(reason)
            self._print(f"A worker is refused: {reason}", "yellow")

    def set_aside(self, server: str, reason: str) -> None:
        """Print that a server gets no more rows."""
        self._print(f"{server} is set aside: {reason}; its rows go to other servers.", "yellow")

    def render(self) -> Group:
        """Return the part that redraws itself."""
        grid = Table.grid(padding=(0, 2))
        for can_wrap in (False, True, False, False, False, True):
            grid.add_column(no_wrap=not can_wrap)
        for lane in sorted(self.lanes.values(), key=lambda lane: lane.record.number):
            eta = lane.eta_s(self.now())
            grid.add_row(
                Text(f"row {lane.record.number}"),
                Text(self._brief(lane.record), no_wrap=True, overflow="ellipsis"),
                Text(lane.place),
                Text(f"{lane.done}/{lane.total}" if lane.total else ""),
                Text(f"{time_label(eta, tenths=False)} left" if eta is not None else ""),
                Text(_short(lane.record.server), style="dim", no_wrap=True, overflow="ellipsis"),
            )
        return Group(grid, Text(self.summary(), style="bold"))

    def summary(self) -> str:
        """Return the totals, and the time left for all rows."""
        rows = len(self.records)
        failed = f", {self._ends[FAILED]} failed" if self._ends[FAILED] else ""
        line = f"{self._ends[DONE]} of {rows} done{failed}"
        finished = self._ended - self._ended_before
        if not finished or self._ended == rows:
            return line
        left_s = (self.now() - self.began) / finished * (rows - self._ended)
        return f"{line}, about {time_label(left_s, tenths=False)} left"

    def _brief(self, record: Record) -> str:
        """Return the values that differ between rows, the shortest first, without node titles."""
        values = [item for item in record.values.items() if item[0] in self._varying]
        parts = [f"{name.rpartition('.')[2]}={value}" for name, value in values]
        return " ".join(sorted(parts, key=len)) or record.workflow

    @property
    def _ended(self) -> int:
        return self._ends.total()

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(escape(text), style=style, highlight=False)


def _varying_names(records: Sequence[Record]) -> frozenset[str]:
    """Return the inputs whose values differ between rows."""
    first = records[0].values if records else {}
    names = {name for record in records for name in record.values}
    return frozenset(
        name
        for name in names
        if any(str(record.values.get(name)) != str(first.get(name)) for record in records)
    )


def _short(server: str | None) -> str:
    return (server or "").rpartition("://")[2]


@contextmanager
def open_display(console: Console, records: Sequence[Record]) -> Iterator[Display]:
    """Open a display that redraws itself on a terminal; elsewhere it only prints lines."""
    display = Display(console, records)
    if not console.is_terminal:
        yield display
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        display.refresh = lambda: live.update(display.render())
        yield display
