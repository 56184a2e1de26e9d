"""Seconds of work for a second of video, apart from the time in which others work."""

from __future__ import annotations

from longtake.stream.work_meter import WorkMeter


def test_others_time_and_the_first_part_do_not_count() -> None:
    now = [100.0]
    meter = WorkMeter(16, lambda: now[0])
    assert meter.factor is None
    for work, others, frames in ((50, 7, 9), (3, 7, 12), (1, 7, 20)):
        meter.begin()
        now[0] += work
        meter.end(frames)
        now[0] += others
    assert meter.factor == (3 + 1) / ((12 + 20) / 16)


def test_one_part_alone_tells_nothing() -> None:
    meter = WorkMeter(16)
    meter.end(9)
    assert meter.factor is None
