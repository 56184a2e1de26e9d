"""Laws of the clock of a run: it stands still in a pause and never goes back."""

import pytest

from longtake.stream.run_clock import RunClock


def test_the_clock_stands_still_in_a_pause() -> None:
    now = [100.0]
    clock = RunClock(lambda: now[0])
    began = clock()
    now[0] += 2
    with clock.pause():
        seen = [clock() - began]
        now[0] += 5
        seen.append(clock() - began)
        assert clock.paused_s == 0
    now[0] += 1
    assert seen == [2, 2] and clock() - began == 3 and clock.paused_s == 5


def test_a_run_that_is_cancelled_in_a_pause_ends_it() -> None:
    now = [0.0]
    clock = RunClock(lambda: now[0])
    with pytest.raises(KeyboardInterrupt), clock.pause():
        now[0] += 4
        raise KeyboardInterrupt
    now[0] += 1
    assert (clock(), clock.paused_s) == (1, 4)
