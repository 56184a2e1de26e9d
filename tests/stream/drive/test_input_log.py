"""What a chunk reads of the keys: held ones, taps, the last chunk's edges, a mouse's way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from longtake.samplers.camera.keys import KEYS, NO_PUSH, NOTHING, KeyState, Push, key_push
from longtake.stream.drive.input_log import MODES, InputLog, Mode

FRAME_S = 0.25
W, D = KeyState(frozenset("w")), KeyState(frozenset("d"))


def texts(pushes: list[Push]) -> list[float]:
    """How hard each frame is pushed forward."""
    return [push.values[2] for push in pushes]


def test_held_keys_act_on_the_whole_chunk() -> None:
    log = InputLog(0.0)
    log.add(0.9, W)
    assert texts(log.read(1.0, 3, FRAME_S, "hold")) == [0.5, 0.5, 0.5]
    assert texts(log.read(2.0, 3, FRAME_S, "hold")) == [0.5, 0.5, 0.5]  # still down
    log.add(2.5, NOTHING)
    assert texts(log.read(3.0, 3, FRAME_S, "hold")) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("seconds", "frames"), [(0.01, 1), (0.25, 1), (0.26, 2), (0.6, 3), (30.0, 3)]
)
def test_a_tap_is_carried_over_for_as_long_as_it_was(seconds: float, frames: int) -> None:
    log = InputLog(0.0)
    log.add(1.0, W)
    log.add(1.0 + seconds, NOTHING)
    pushes = texts(log.read(40.0, 3, FRAME_S, "hold"))
    assert pushes == [0.5] * frames + [0.0] * (3 - frames)
    assert texts(log.read(41.0, 3, FRAME_S, "hold")) == [0.0] * 3  # only once


def test_a_key_that_an_earlier_chunk_has_read_is_no_tap() -> None:
    log = InputLog(0.0)
    log.add(0.5, W)
    log.read(1.0, 2, FRAME_S, "hold")
    log.add(1.5, NOTHING)
    assert texts(log.read(2.0, 2, FRAME_S, "hold")) == [0.0, 0.0]


def states(text: str) -> list[KeyState]:
    """One state for each word; `-` is nothing."""
    return [KeyState(frozenset(word) - {"-"}) for word in text.split()]


@pytest.mark.parametrize(
    ("held", "count", "frames"),
    [
        ("a - d -", 3, "a d -"),  # left, then right: not both at once
        ("a - d", 3, "a d d"),
        ("a - a -", 3, "a a -"),
        ("a - w - d", 2, "a wd"),  # the last frame has what no longer fits
        ("a - d", 1, "ad"),
        ("a ad d -", 3, "ad ad -"),  # keys that were down together act together
        ("a aw a", 3, "aw a a"),
    ],
)
def test_presses_act_after_one_another(held: str, count: int, frames: str) -> None:
    log = InputLog(0.0)
    for at, state in enumerate(states(held)):
        log.add(0.1 * at, state)
    pushes = log.read(1.0, count, 0.15, "hold")
    assert pushes == [state.push for state in states(frames)]


def test_history_replays_every_edge_in_its_part_of_the_time() -> None:
    log = InputLog(0.0)
    log.add(1.0, W)  # of 4 s for 4 frames: down from 1 to 2.5
    log.add(2.5, NOTHING)
    assert texts(log.read(4.0, 4, FRAME_S, "history")) == [0.0, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("seconds", [0.0, 5e-324])
def test_history_of_no_time_is_what_is_held(seconds: float) -> None:
    log = InputLog(0.0)
    log.add(0.0, W)
    assert texts(log.read(seconds, 3, FRAME_S, "history")) == [0.5, 0.5, 0.5]


def test_a_mouse_turns_by_its_way_whatever_the_mode() -> None:
    for mode in MODES:
        log = InputLog(0.0)
        log.add(0.1, NOTHING, (60.0, 0.0))
        log.add(0.9, NOTHING, (40.0, -20.0))
        pushes = log.read(1.0, 4, FRAME_S, mode)
        turned = sum(push.values[3] for push in pushes) * FRAME_S
        assert turned == pytest.approx(100 / 1200), mode
        assert sum(push.values[4] for push in pushes) * FRAME_S == pytest.approx(20 / 1200)
    assert [push.values[3] > 0 for push in pushes] == [True, False, False, True]


EDGES = some.lists(
    some.tuples(some.floats(0, 5), some.frozensets(some.sampled_from([*KEYS]))), max_size=12
)


@settings(max_examples=80)
@given(EDGES, some.integers(1, 8))
def test_history_is_the_mean_over_finely_cut_time(
    edges: list[tuple[float, frozenset[str]]], count: int
) -> None:
    """Against a loop that asks at each of 5,000 moments what was down."""
    edges = sorted(edges, key=lambda edge: edge[0])
    log = InputLog(0.0)
    for at, keys in edges:
        log.add(at, KeyState(keys))
    pushes = log.read(5.0, count, FRAME_S, "history")
    moments = 5000
    for i, push in enumerate(pushes):
        total = NO_PUSH
        part = range(moments * i // count, moments * (i + 1) // count)
        for moment in part:
            time = 5.0 * (moment + 0.5) / moments
            down = [keys for at, keys in edges if at <= time]
            total += key_push(down[-1] if down else frozenset())
        assert push.values == pytest.approx(total.scaled(1 / len(part)).values, abs=0.03)


@pytest.mark.parametrize("mode", MODES)
def test_a_stick_counts_beside_keys(mode: Mode) -> None:
    log = InputLog(0.0)
    log.add(0.0, KeyState(frozenset("w"), Push((0.25, 0.0, 0.25, 0.0, 0.0))))
    assert log.read(1.0, 1, FRAME_S, mode)[0].values == (0.25, 0.0, 0.75, 0.0, 0.0)


@settings(max_examples=80)
@given(EDGES, some.integers(1, 6))
def test_every_press_is_in_a_frame(edges: list[tuple[float, frozenset[str]]], count: int) -> None:
    """Against a walk over the edges: each key that was ever down acts, each that is down stays."""
    log = InputLog(0.0)
    down: frozenset[str] = frozenset()
    pressed = set[str]()
    for at, keys in sorted(edges, key=lambda edge: edge[0]):
        log.add(at, KeyState(keys))
        pressed |= keys - down
        down = keys
    presses = [*log._presses(count, FRAME_S)]
    assert {key for key, *_ in presses} == pressed
    assert all(0 <= frame < min(stop, count) for _, frame, stop in presses)
    assert {key for key, _, stop in presses if stop >= count} >= down


@settings(max_examples=60)
@given(EDGES, some.floats(0, 5), some.sampled_from(MODES))
def test_a_read_that_is_taken_back_leaves_no_trace(
    edges: list[tuple[float, frozenset[str]]], cut: float, mode: Mode
) -> None:
    """Two reads, the first taken back, are one read."""
    once, twice = InputLog(0.0), InputLog(0.0)
    edges = sorted(edges, key=lambda edge: edge[0])
    for at, keys in edges:
        once.add(at, KeyState(keys), (at, -1.0))
        if at <= cut:
            twice.add(at, KeyState(keys), (at, -1.0))
    twice.read(cut, 3, FRAME_S, mode)
    twice.take_back()
    twice.take_back()  # nothing is left to take back
    for at, keys in edges:
        if at > cut:
            twice.add(at, KeyState(keys), (at, -1.0))
    assert twice.read(5.0, 3, FRAME_S, mode) == once.read(5.0, 3, FRAME_S, mode)
