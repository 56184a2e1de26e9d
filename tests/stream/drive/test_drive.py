"""One person at the wheel: who drives, what a chunk is told, and what is kept as text."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from longtake.samplers.camera.keys import NOTHING, KeyState
from longtake.samplers.camera.live import drive_path
from longtake.samplers.camera.moves import STILL, CameraMotion, write_motion
from longtake.samplers.camera.path import STILL_PATH
from longtake.stream.drive.drive import LEASE_S, PACE_MESSAGES, Drive, Steer
from longtake.stream.drive.input_log import Mode
from longtake.stream.drive.timing import DriveTiming

W = KeyState(frozenset("w"))
NUMBERS = count(1)


class Clock:
    """A clock that a test turns."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def wheel() -> tuple[Drive, Clock, list[int]]:
    """An open drive, its clock, and a list that grows with each change shown to pages."""
    clock, changes = Clock(), list[int]()
    drive = Drive(lambda: changes.append(1), clock)
    drive.open(16.0)
    return drive, clock, changes


def says(driver: str = "a", number: int = 1, state: KeyState = W, **more: Any) -> Steer:
    return Steer(driver, number, state, **more)


def test_nobody_drives_a_run_without_a_camera() -> None:
    drive = Drive(lambda: None)
    assert drive.steer(says()) == "no camera"
    assert drive.state is None and not drive.is_live


def test_before_the_first_key_the_path_stays_as_it_is() -> None:
    drive, _, _ = wheel()
    drive.steer(says(state=NOTHING))
    assert drive.read(3, 0.25) is None


def test_chunks_wait_for_a_driver_before_the_first_key() -> None:
    """Else the run gets ahead, and that key acts on what is shown seconds later."""
    drive, clock, _ = wheel()
    drive.steer(says(state=NOTHING, shown=3))
    assert drive.is_live and drive.is_ahead(9)
    clock.now += LEASE_S + 1
    assert not drive.is_live and not drive.is_ahead(9)


def test_of_two_pages_one_drives_and_the_other_is_told() -> None:
    drive, clock, _ = wheel()
    assert drive.steer(says("a")) == "drives"
    assert drive.steer(says("b")) == "other"
    assert drive.state and drive.state.driver == "a"
    assert drive.steer(says("b", take_over=True)) == "drives"
    assert drive.steer(says("a", 9)) == "other"
    clock.now += LEASE_S + 1  # the page is silent
    assert not drive.is_live
    assert drive.steer(says("a", 10)) == "drives"


def test_who_leaves_holds_nothing_and_frees_the_wheel() -> None:
    drive, _, _ = wheel()
    drive.steer(says("a"))
    drive.steer(says("a", 2, W, leave=True))
    assert drive.read(2, 0.25) is not None  # the tap
    assert drive.read(2, 0.25) == (STILL, STILL)
    assert drive.steer(says("b")) == "drives"


def test_a_silent_page_lets_go_of_its_keys() -> None:
    drive, clock, _ = wheel()
    drive.steer(says())
    assert [write_motion(motion) for motion in drive.read(1, 0.25) or ()] == ["forward 0.5"]
    clock.now += LEASE_S + 1
    assert drive.read(1, 0.25) == (STILL,)


def test_a_message_that_was_overtaken_changes_nothing() -> None:
    drive, _, _ = wheel()
    drive.steer(says(number=5, state=W))
    drive.steer(says(number=4, state=NOTHING))
    assert [write_motion(motion) for motion in drive.read(1, 0.25) or ()] == ["forward 0.5"]


def test_pages_learn_which_message_a_chunk_has_read() -> None:
    drive, _, changes = wheel()
    drive.steer(says(number=7))
    motions = drive.read(3, 0.25)
    assert motions is not None
    drive.steer(says(number=8, state=NOTHING))  # after the chunk has looked
    before = len(changes)
    drive.note(3, motions)
    state = drive.state
    assert state is not None and len(changes) == before + 1
    assert (state.number, state.frame, state.motion) == (7, 9, "forward 0.5")
    assert state.start_s == 9 / 16


def test_lines_name_each_change_once_with_the_time_of_its_latent_frame() -> None:
    drive, _, _ = wheel()
    for first in (3, 6):
        drive.steer(says(number=first))
        drive.note(first, drive.read(3, 0.25) or ())
    drive.steer(says(number=20, state=NOTHING))
    drive.note(9, drive.read(3, 0.25) or ())
    assert drive.lines == ["0.56: forward 0.5", "2.06: still"]


@pytest.mark.parametrize(("shown", "ahead"), [(None, False), (3, True), (9, False)])
def test_a_chunk_waits_only_for_a_driver_who_follows(shown: int | None, ahead: bool) -> None:
    drive, clock, _ = wheel()
    drive.steer(says(shown=shown))
    assert drive.is_ahead(9) is ahead
    clock.now += LEASE_S + 1
    assert not drive.is_ahead(9)


def test_after_the_end_nobody_drives() -> None:
    drive, _, _ = wheel()
    drive.steer(says())
    drive.note(0, drive.read(1, 0.25) or ())
    drive.close()
    assert drive.steer(says(number=2)) == "ended"
    assert drive.lines == ["0.00: forward 0.5"] and not drive.is_live


def test_a_chunk_is_due_as_long_before_its_first_frame_as_its_way_to_the_page_takes() -> None:
    drive, clock, _ = wheel()
    timing = DriveTiming(drive, 16.0, clock)
    polls = list[int]()

    def goes_on() -> bool:
        polls.append(1)
        return len(polls) < 3

    def is_kept_back(shown: int) -> bool:
        polls.clear()
        drive.steer(says(number=drive_number(), mode="re-plan", shown=shown))
        drive.read_again(3, 0.25)  # what is down is no news
        assert timing.other_motions(100, 3, None, goes_on) is None
        return len(polls) > 0

    numbers = iter(range(1, 20))

    def drive_number() -> int:
        return next(numbers)

    assert is_kept_back(97) and not is_kept_back(98)  # a page tells it every tenth of a second
    clock.now += 0.5  # decoded, encoded, taken
    timing.note_arrival()
    assert is_kept_back(89) and not is_kept_back(90)


def begins_at(drive: Drive, timing: DriveTiming, mode: Mode = "hold") -> int:
    """The frame on the screen with which the chunk from frame 100 on begins, if 88 is earliest."""
    for shown in range(80, 101):
        drive.steer(says(number=next(NUMBERS), mode=mode, shown=shown))
        if not waits(timing):
            return shown
    raise AssertionError("it never begins")


def waits(timing: DriveTiming) -> bool:
    """Whether the chunk from frame 100 on waits; the wait is ended at once."""
    asked = list[int]()

    def goes_on() -> bool:
        asked.append(1)
        return False

    timing.wait_to_begin(100, 88, goes_on)
    return len(asked) > 0


def make_chunk(timing: DriveTiming, clock: Clock, seconds: float) -> None:
    timing.note_begin()
    clock.now += seconds
    timing.note_arrival()


def test_a_chunk_begins_so_late_that_it_is_just_in_time() -> None:
    """At first with the chunk before it. The slowest of the newest eight then says how long."""
    drive, clock, _ = wheel()
    timing = DriveTiming(drive, 16.0, clock)
    assert begins_at(drive, timing) == 88
    timing.note_arrival()  # of nothing
    assert begins_at(drive, timing) == 88
    make_chunk(timing, clock, 0.15)  # and 0.1 for the page: 4 frames
    assert begins_at(drive, timing) == 96
    make_chunk(timing, clock, 0.4)
    make_chunk(timing, clock, 0.15)
    assert begins_at(drive, timing) == 92
    for _ in range(8):
        make_chunk(timing, clock, 0.15)
    assert begins_at(drive, timing) == 96
    make_chunk(timing, clock, 2.0)  # longer than a chunk plays
    assert begins_at(drive, timing) == 88
    assert begins_at(drive, timing, "re-plan") == 80


def test_the_pace_is_the_pages_and_at_least_the_shots() -> None:
    drive, clock, _ = wheel()

    def play(first: int, frames: int, speed: float, driver: str = "page") -> float:
        for shown in range(first, first + frames):
            drive.steer(says(driver, next(NUMBERS), shown=shown, take_over=True))
            clock.now += 1 / speed
        return drive.pace

    assert play(0, PACE_MESSAGES - 1, 32.0) == 16.0  # too few to tell
    assert play(PACE_MESSAGES - 1, PACE_MESSAGES, 32.0) == pytest.approx(32.0)
    assert play(60, 30, 10.0) == 16.0  # it waits for frames
    assert play(0, 5, 64.0) == 16.0  # it jumped back
    play(5, 40, 64.0)
    assert drive.pace == pytest.approx(64.0)
    assert play(50, 5, 64.0, driver="other") == 16.0
    drive.steer(says("other", next(NUMBERS)))
    assert drive.pace == 16.0


def test_keys_change_a_chunk_that_is_kept_back_and_only_then() -> None:
    drive, clock, _ = wheel()
    timing = DriveTiming(drive, 16.0, clock)
    drive.steer(says(mode="re-plan", shown=0))
    motions = drive.read(2, 0.25)
    drive.note(3, motions or ())
    drive.steer(says(number=2, state=NOTHING, mode="re-plan", shown=0))
    other = timing.other_motions(50, 2, motions, lambda: True)
    assert other is not None and other != motions
    drive.note(3, other)
    assert len(drive.lines) == 2  # the tap, then still
    drive.steer(says(number=3, mode="hold", shown=0))
    assert timing.other_motions(50, 2, other, lambda: True) is None


@pytest.mark.parametrize(("held_s", "moving"), [(0.1, 1), (0.3, 2), (0.5, 2), (0.7, 3), (1.0, 4)])
def test_a_key_let_go_while_a_chunk_is_kept_back_acts_as_long_as_it_was_held(
    held_s: float, moving: int
) -> None:
    """A latent frame is four pictures: a quarter of a second at 16 a second."""
    drive, clock, _ = wheel()
    timing = DriveTiming(drive, 16.0, clock)
    clock.now = 1.0
    drive.steer(says(mode="re-plan", shown=0))
    motions = drive.read(5, 0.25)
    clock.now += held_s
    drive.steer(says(number=2, state=NOTHING, mode="re-plan", shown=0))
    other = timing.other_motions(100, 5, motions, iter([True, False]).__next__) or ()
    assert len(other) == 5 and all(motion != STILL for motion in other[:moving])
    assert all(motion == STILL for motion in other[moving:])


def test_a_note_returns_what_changes_and_all_of_it_for_the_frames_that_begin() -> None:
    """Frame 0 does not move, so that frame 1 begins with its motion."""
    drive, _, _ = wheel()
    one, other = (CameraMotion(turn=turn) for turn in (1.0, 2.0))
    assert drive.note(0, [one]) == [(0, one)]
    assert drive.note(1, [one]) == [(0, one)]
    assert drive.note(2, [one, other]) == [(3, other)]
    assert drive.note(2, [one, one]) == []
    assert drive.note(1, [other]) == [(0, one), (1, other)]


def test_a_drive_from_frame_0_goes_on_at_frame_1() -> None:
    """Of chunks of one latent frame, whose first one does not move."""
    drive, _, _ = wheel()
    path, left = STILL_PATH, CameraMotion(turn=-15.0)
    for frame in range(3):
        path = drive_path(path, frame, drive.note(frame, [left]))
    assert path.turns_of(path.steps_of(range(4))).tolist() == pytest.approx([0, -15, -15, -15])
