"""A relay tells a failure once, then seldom, and once when the connection is back."""

from __future__ import annotations

from longtake.stream.live.outage import STEADY_S, Outage

REFUSED, ENDED, CONNECTED = "It failed (refused).", "The source has ended.", "Connected."


class Told:
    """An outage, and what it told at which second of a clock that the test moves."""

    def __init__(self) -> None:
        self.now, self.said = 0.0, list[tuple[float, str]]()
        self.outage = Outage(lambda text: self.said.append((self.now, text)), lambda: self.now)

    def try_for(self, seconds: float, *failures: str) -> None:
        """Fail every two seconds, in turn with each of `failures`."""
        for number in range(int(seconds / 2)):
            self.outage.fail(failures[number % len(failures)])
            self.now += 2

    def connect_for(self, seconds: float) -> None:
        self.outage.connect(CONNECTED)
        for _ in range(int(seconds)):
            self.now += 1
            self.outage.go_on()


def test_a_failure_of_eight_minutes_is_four_lines() -> None:
    told = Told()
    told.try_for(480, REFUSED)
    assert told.said == [
        (0, f"{REFUSED} Trying again."),
        (60, f"{REFUSED} 31 tries in 1 min. Trying again."),
        (180, f"{REFUSED} 91 tries in 3 min. Trying again."),
        (420, f"{REFUSED} 211 tries in 7 min. Trying again."),
    ]


def test_a_failure_of_a_day_is_told_every_hour_at_last() -> None:
    told = Told()
    told.try_for(24 * 3600, REFUSED)
    gaps = [later[0] - sooner[0] for sooner, later in zip(told.said, told.said[1:], strict=False)]
    assert gaps == sorted(gaps) and gaps[-2:] == [3600, 3600] and len(gaps) < 32


def test_failures_in_turn_are_each_told_once() -> None:
    told = Told()
    told.try_for(40, REFUSED, ENDED)
    assert [text for _, text in told.said] == [f"{REFUSED} Trying again.", f"{ENDED} Trying again."]


def test_the_return_is_told_once_and_the_next_failure_at_once() -> None:
    told = Told()
    told.connect_for(2 * STEADY_S)
    told.try_for(40, REFUSED)
    told.connect_for(2 * STEADY_S)
    told.try_for(40, REFUSED)
    words = [text for _, text in told.said]
    assert words == [CONNECTED, f"{REFUSED} Trying again."] * 2


def test_a_server_that_hangs_up_again_and_again_is_no_flood() -> None:
    told = Told()
    for _ in range(10):
        told.connect_for(1)
        told.outage.fail(ENDED)
    assert [text for _, text in told.said] == [CONNECTED, f"{ENDED} Trying again."]
    told.connect_for(2 * STEADY_S)
    assert [text for _, text in told.said][2:] == [CONNECTED]
