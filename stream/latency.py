"""The latency figures of a run, from the instants at which its chunks begin and are there.

docs/reference/latency.md gives the definitions.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from .metrics import percentile

MOST_WAITING = 64  # chunks that are begun and never shown are forgotten: nobody decodes them
SHOWN_S = 0.005  # what the words round to a hundredth of a second


@dataclass(frozen=True, slots=True)
class LatencyFigures:
    """What a viewer waits for; None where nothing tells yet.

    `block_latency_s`: seconds from the reading of the controls for a chunk to its pictures.
    `real_time_factor`: seconds of work for a second of video. `continuous_play_rate`: the share of
    chunks, 0 to 1, that come before a viewer needs them. `switch_cost_s`: seconds that a viewer
    waits longer for a chunk with another prompt or a live edit; below 0 where that one is faster.
    """

    block_latency_s: float | None = None
    real_time_factor: float | None = None
    continuous_play_rate: float | None = None
    switch_cost_s: float | None = None


@dataclass(slots=True)
class _Viewer:
    """Plays every chunk as soon as it is there and the one before has been shown."""

    plays_until: float = 0.0
    on_time: int = 0

    def begin(self, now: float, video_s: float) -> None:
        """Play the first chunk at once."""
        self.plays_until = now + video_s

    def go_on(self, now: float, video_s: float) -> None:
        """Play the next chunk, which came at `now`."""
        self.on_time += now <= self.plays_until
        self.plays_until = max(now, self.plays_until) + video_s


@dataclass(slots=True)
class _Begun:
    """A chunk whose pictures are not there yet."""

    at: float
    is_new: bool = False
    switches: bool = False


@dataclass(slots=True)
class _Waits:
    """Seconds between chunks, apart for those with a switch."""

    steady_s: array[float] = field(default_factory=lambda: array("d"))
    switch_s: array[float] = field(default_factory=lambda: array("d"))


class LatencyMeter:
    """Notes when chunks begin and come. Call all methods on the thread that makes chunks.

    `clock` returns seconds and never goes back; `fps` are frames of video a second. A chunk counts
    if this run made both it and the chunk before: others come from disk, or have no one before.
    """

    def __init__(self, clock: Callable[[], float], fps: float) -> None:
        self._clock, self._fps = clock, fps
        self._begun: dict[int, _Begun] = {}
        self._last: tuple[int, float, str] | None = None  # index, instant and prompt
        self._viewer, self._waits = _Viewer(), _Waits()
        self._latencies_s = array("d")
        self._video_s = 0.0

    def begin(self, index: int) -> None:
        """The controls are about to be read for chunk `index`."""
        self._begun[index] = _Begun(self._clock())
        if len(self._begun) > MOST_WAITING:
            del self._begun[next(iter(self._begun))]

    def switch(self, index: int) -> None:
        """A live edit is in force from chunk `index` on."""
        self._begun[index].switches = True

    def make(self, index: int) -> None:
        """This run has made chunk `index`, so that its pictures count."""
        if index in self._begun:
            self._begun[index].is_new = True

    def show(self, index: int, frames: int, prompt: str) -> None:
        """The `frames` pictures of chunk `index` are there; the first call for a chunk counts."""
        begun = self._begun.pop(index, None)
        if begun is None or not begun.is_new:
            return
        now, last, video_s = self._clock(), self._last, frames / self._fps
        self._last = (index, now, prompt)
        if last is None or last[0] != index - 1:
            self._viewer.begin(now, video_s)
            return
        self._viewer.go_on(now, video_s)
        self._latencies_s.append(now - begun.at)
        self._video_s += video_s
        is_switch = begun.switches or prompt != last[2]
        (self._waits.switch_s if is_switch else self._waits.steady_s).append(now - last[1])

    @property
    def figures(self) -> LatencyFigures:
        """The figures so far."""
        waits = self._waits
        count = len(self._latencies_s)
        if not count or not self._video_s:
            return LatencyFigures()
        usual_s, switch_s = percentile(waits.steady_s, 50), percentile(waits.switch_s, 50)
        return LatencyFigures(
            percentile(self._latencies_s, 50),
            (sum(waits.steady_s) + sum(waits.switch_s)) / self._video_s,
            self._viewer.on_time / count,
            None if usual_s is None or switch_s is None else switch_s - usual_s,
        )


def in_words(first_chunk_s: float | None, figures: LatencyFigures) -> str:
    """The known figures in one line, for a log; empty if none is known."""
    rate, cost_s = figures.continuous_play_rate, figures.switch_cost_s
    known = {
        "first chunk after {:.2f} s": first_chunk_s,
        "block latency {:.2f} s": figures.block_latency_s,
        "real-time factor {:.2f}": figures.real_time_factor,
        "{:.0f} % of the chunks in time": None if rate is None else math.floor(100 * rate + 1e-9),
        "{} for a switch": None if cost_s is None else _extra(cost_s),
    }
    return ", ".join(text.format(value) for text, value in known.items() if value is not None)


def _extra(seconds: float) -> str:
    """Seconds on top of the usual ones; a chunk that came sooner than usual takes none."""
    return f"{seconds:+.2f} s" if seconds >= SHOWN_S else "0.00 s"
