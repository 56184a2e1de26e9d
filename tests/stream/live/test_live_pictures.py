"""What a live address shows: every picture once, at the video's rate, from run to run."""

from __future__ import annotations

from pathlib import Path

from longtake.stream.live.jitter import JitterBuffer
from longtake.stream.live.take_reader import TakeReader
from longtake.stream.preview.takes import Limits
from longtake.tests.support.stream.live_shot import LiveShot, jpeg_number


def read_all(reader: TakeReader) -> list[int]:
    """The numbers of all pictures that are there."""
    reader.follow()
    jpegs = iter(reader.next, None)
    return [jpeg_number(jpeg) for jpeg in jpegs]


def test_a_reader_begins_at_the_newest_chunk_and_then_misses_nothing(tmp_path: Path) -> None:
    shot = LiveShot(tmp_path)
    reader = TakeReader(shot.newest, max_waiting_s=60)
    assert read_all(reader) == []
    shot.add()
    shot.add()
    reader.follow()
    shot.add()
    assert reader.waiting == 8
    assert read_all(reader) == [*range(4, 12)]
    shot.add(3)
    assert read_all(reader) == [12, 13, 14] and reader.waiting == 0
    shot.takes.reset()


def test_a_newer_run_takes_over_with_its_first_picture(tmp_path: Path) -> None:
    shot = LiveShot(tmp_path)
    reader = TakeReader(shot.newest, max_waiting_s=60)
    shot.add()
    shot.add()
    reader.follow()
    shot.add()
    shot.run()
    assert jpeg_number(reader.next() or b"") == 4, "until then, the earlier run goes on"
    shot.add()
    shot.add()
    assert read_all(reader) == [*range(12, 20)]
    shot.takes.reset()


def test_a_reader_that_is_too_far_behind_goes_on_at_the_newest_chunk(tmp_path: Path) -> None:
    shot = LiveShot(tmp_path, fps=4.0)
    reader = TakeReader(shot.newest, max_waiting_s=2.0)
    shot.add()
    reader.follow()
    shot.add()
    assert reader.waiting == 8 and jpeg_number(reader.next() or b"") == 0
    shot.add()
    assert read_all(reader) == [*range(8, 12)]
    shot.takes.reset()


def test_pictures_that_the_store_has_dropped_are_passed_over(tmp_path: Path) -> None:
    shot = LiveShot(tmp_path, limits=Limits(ram_bytes=1, disk_bytes=1))
    reader = TakeReader(shot.newest, max_waiting_s=60)
    shot.add()
    shot.add()
    assert read_all(reader) == [] and reader.waiting == 0
    shot.takes.reset()


def test_the_address_of_a_node_stays_from_run_to_run(tmp_path: Path) -> None:
    shot = LiveShot(tmp_path)
    shot.add()
    token = shot.token
    shot.run()
    assert shot.token == token and shot.takes.newest(token) is shot.take
    assert shot.takes.newest("unknown") is None
    assert token not in {shot.take.token, ""}, "whoever watches must not control the run"
    shot.takes.reset()


def test_after_a_gap_the_first_picture_waits_and_the_others_follow_at_once() -> None:
    buffer = JitterBuffer(wait_s=0.5)
    assert not buffer.may_play(0.0, waiting=0)
    assert not buffer.may_play(1.0, waiting=4)
    assert not buffer.may_play(1.4, waiting=4)
    assert buffer.may_play(1.5, waiting=4) and buffer.may_play(1.6, waiting=1)
    assert not buffer.may_play(1.75, waiting=0)
    assert not buffer.may_play(1.75, waiting=9), "the next gap"
    assert buffer.may_play(2.25, waiting=9)
