"""The latency figures equal those counted from a plain list of events, picture by picture."""

import statistics
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.stream.latency import MOST_WAITING, LatencyFigures, LatencyMeter, in_words

FPS = 16


@dataclass
class Event:
    """One chunk: how long before its controls are read, and from there to its pictures."""

    wait_s: Fraction
    work_s: Fraction
    frames: int
    is_new: bool
    prompt: str
    is_edited: bool


SECONDS = st.integers(0, 64).map(lambda ticks: Fraction(ticks, 16))
EVENTS = st.lists(
    st.builds(
        Event, SECONDS, SECONDS, st.integers(1, 24),
        st.sampled_from([True, True, True, False]), st.sampled_from("aab"), st.booleans(),
    ),
    max_size=12,
)  # fmt: skip


def play(events: list[Event]) -> LatencyFigures:
    """What the meter says after these chunks, under a clock of our own."""
    now = Fraction(50)
    meter = LatencyMeter(lambda: float(now), FPS)
    for index, event in enumerate(events):
        now += event.wait_s
        meter.begin(index)
        if event.is_edited:
            meter.switch(index)
        if event.is_new:
            meter.make(index)
        now += event.work_s
        meter.show(index, event.frames, event.prompt)
    return meter.figures


def count(events: list[Event]) -> LatencyFigures:
    """The definitions of docs/reference/latency.md, from the whole list at once."""
    ready, now = [], Fraction(0)
    for event in events:
        now += event.wait_s + event.work_s
        ready.append(now)
    counted = [k for k in range(1, len(events)) if events[k].is_new and events[k - 1].is_new]
    if not counted:
        return LatencyFigures()
    waits = {k: ready[k] - ready[k - 1] for k in counted}
    switches = [
        k for k in counted
        if events[k].is_edited or events[k].prompt != events[k - 1].prompt
    ]  # fmt: skip
    steady = [k for k in counted if k not in switches]
    cost = None
    if switches and steady:
        cost = float(
            statistics.median(waits[k] for k in switches)
            - statistics.median(waits[k] for k in steady)
        )
    video_s = sum(Fraction(events[k].frames, FPS) for k in counted)
    return LatencyFigures(
        float(statistics.median(events[k].work_s for k in counted)),
        float(sum(waits.values()) / video_s),
        len([k for k in counted if is_in_time(events, ready, k)]) / len(counted),
        cost,
    )


def is_in_time(events: list[Event], ready: list[Fraction], chunk: int) -> bool:
    """Whether a viewer, who shows one picture after another, needs not wait for `chunk`."""
    first = chunk
    while first and events[first - 1].is_new:
        first -= 1
    shown_until = ready[first]
    for k in range(first, chunk):
        for _ in range(events[k].frames):
            shown_until = max(shown_until, ready[k]) + Fraction(1, FPS)
    return ready[chunk] <= shown_until


@given(EVENTS)
def test_the_figures_are_those_of_the_definitions(events: list[Event]) -> None:
    measured, expected = play(events), count(events)
    for name in LatencyFigures.__dataclass_fields__:
        assert getattr(measured, name) == pytest.approx(getattr(expected, name), abs=1e-9), name


def test_a_steady_run_at_half_the_speed_of_the_video() -> None:
    chunk = Event(Fraction(0), Fraction(2), 16, True, "a", False)
    figures = play([chunk] * 5)
    assert figures == LatencyFigures(2.0, 2.0, 0.0, None)


def test_a_late_chunk_moves_the_time_at_which_later_ones_are_due() -> None:
    """A second of video each, at 0, 1.5, 2.25 and 3.5 s: only the second is late."""
    waits = Fraction(0), Fraction(3, 2), Fraction(3, 4), Fraction(5, 4)
    events = [Event(Fraction(0), wait, 16, True, "a", False) for wait in waits]
    assert play(events).continuous_play_rate == pytest.approx(2 / 3)


def test_the_first_call_for_a_chunk_counts_and_one_that_never_began_does_not() -> None:
    meter = LatencyMeter(iter(range(100)).__next__, FPS)
    for index in range(3):
        meter.begin(index)
        meter.make(index)
        meter.show(index, 12, "a")
    before = meter.figures
    meter.show(2, 12, "b")
    meter.make(9)
    meter.show(9, 12, "b")
    assert meter.figures == before


def test_chunks_that_nobody_decodes_take_no_memory() -> None:
    meter = LatencyMeter(lambda: 0.0, FPS)
    for index in range(3 * MOST_WAITING):
        meter.begin(index)
        meter.make(index)
    assert len(meter._begun) == MOST_WAITING and meter.figures == LatencyFigures()


def test_the_figures_in_words() -> None:
    figures = LatencyFigures(0.312, 0.754, 0.9666, 0.02)
    assert in_words(0.5, figures) == (
        "first chunk after 0.50 s, block latency 0.31 s, real-time factor 0.75, 96 % of the chunks "
        "in time, +0.02 s for a switch"
    )
    for none in (-0.3, -0.001, 0.0, 0.004):
        assert in_words(None, LatencyFigures(switch_cost_s=none)) == "0.00 s for a switch"
    assert in_words(None, LatencyFigures()) == ""
