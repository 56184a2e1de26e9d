"""The latency figures of a real run, in its report, its preview and its log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from longtake.stream.run_clock import RunClock
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import ask_at, pictures

NAMES = ("block_latency_s", "real_time_factor", "continuous_play_rate", "switch_cost_s")


class SteppedClock(RunClock):
    """One second later at each look, so that every figure is a count of looks."""

    def __init__(self) -> None:
        ticks = iter(range(10**6))
        super().__init__(lambda: float(next(ticks)))


def figures(frames: Any) -> dict[str, float | None]:
    report = frames.report([])
    return {name: getattr(report, name) for name in NAMES}


def on_clock(frames: Any, clock: RunClock) -> Any:
    """`frames`, whose run looks at `clock`."""
    frames.rollout.run.latency._clock = clock
    return frames


def test_a_run_of_three_chunks_is_measured_between_them(bench: Bench) -> None:
    """Two looks a chunk: as it begins, and as its pictures are there."""
    frames = on_clock(bench.frames(text="0: a red ball"), SteppedClock())
    pictures(bench, frames)
    assert figures(frames) == {
        "block_latency_s": 1, "real_time_factor": 4 / (24 / 16), "continuous_play_rate": 0,
        "switch_cost_s": None,
    }  # fmt: skip


def test_a_live_edit_is_a_switch(bench: Bench) -> None:
    frames = bench.frames(text="0: a red ball")
    ask_at(bench, 1, lambda: frames.controls.set_number("guidance", 3.0))
    pictures(bench, on_clock(frames, SteppedClock()))
    assert figures(frames)["switch_cost_s"] == 0  # two looks, as in any other chunk


def test_a_line_of_the_timeline_is_a_switch(bench: Bench) -> None:
    frames = bench.frames(text="0: a red ball\n1.3: a blue ball")
    pictures(bench, on_clock(frames, SteppedClock()))
    assert figures(frames)["switch_cost_s"] == 0


def test_an_edit_that_fails_is_no_switch(bench: Bench) -> None:
    frames = bench.frames(text="0: a red ball")
    ask_at(bench, 1, lambda: frames.controls.set_number("lora", 2.0))
    pictures(bench, on_clock(frames, SteppedClock()))
    assert [edit.status for edit in frames.controls.edits] == ["failed"]
    assert figures(frames)["switch_cost_s"] is None


def test_chunks_from_disk_do_not_count(bench: Bench) -> None:
    first = bench.frames(text="0: a red ball")
    pictures(bench, first)
    assert figures(first)["block_latency_s"] is not None
    bench.state.start_prompt()
    again = bench.frames(text="0: a red ball")
    pictures(bench, again)
    assert figures(again) == dict.fromkeys(NAMES)


def test_the_preview_and_its_log_line_have_the_figures(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    from longtake.nodes.runtime.session import session

    frames = on_clock(bench.frames(text="0: a red ball"), SteppedClock())
    with caplog.at_level(logging.INFO, logger="longtake"):
        bench.run("LongtakePreview", frames=frames)
    stats = list(session.takes._takes.values())[-1].manifest()["stats"]
    assert {name: stats[name] for name in NAMES} == figures(frames)
    assert "block latency 1.00 s, real-time factor 2.67, 0 % of the chunks in time." in caplog.text
