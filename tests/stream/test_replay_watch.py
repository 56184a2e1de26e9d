"""Laws of a replay in a run that goes on: users hear of it, and can stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from longtake.stream.rollout.rollout import Rollout
from longtake.tests.support.stream.rollouts import assert_same_bits, rollout

AT = 4  # the chunk at which guidance gets another branch


@pytest.fixture(autouse=True)
def long_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay of a moment counts as a long one."""
    monkeypatch.setattr("longtake.stream.replay_watch.TELL_AFTER_S", 0.0)


def sentences(made: Rollout, react: Callable[[], None] = lambda: None) -> tuple[list[str], int]:
    """What users hear when guidance changes before chunk `AT`, and how many chunks they get."""
    controls, said, count = made.run.controls, list[str](), 0

    def listen() -> None:
        if controls.message and controls.message not in said:
            said.append(controls.message)
            react()

    controls.listen(listen)
    for chunk in made.run.chunks:
        count += 1
        if chunk.index == AT - 1:
            controls.set_number("guidance", 2.0)
    return said, count


def test_a_change_that_replays_the_shot_says_so(tmp_path: Path) -> None:
    said, _ = sentences(rollout(tmp_path, length=24))
    assert len(said) == 2 and "reads the 4 chunks before this one again" in said[0]
    assert "another 0:0" in said[0] and said[1].startswith("The model has read all")


def test_a_pause_holds_a_replay_up(tmp_path: Path) -> None:
    """The player says "paused", so that the model must not work on until then."""
    made = rollout(tmp_path, length=24)
    controls, states = made.run.controls, list[str]()

    def pause() -> None:
        states.append(controls.state)
        if len(states) == 1:
            controls.pause()
            threading.Timer(0.3, controls.resume).start()

    said, count = sentences(made, pause)
    assert len(said) == 2 and states == ["running", "running"]
    assert count > AT and controls.state == "done" and controls.paused_s > 0.2


def test_a_stop_ends_a_replay_and_keeps_all_chunks(tmp_path: Path) -> None:
    made = rollout(tmp_path, length=24)
    said, count = sentences(made, made.run.controls.stop)
    assert len(said) == 1 and count == made.run.stopped_at == AT
    assert made.run.controls.state == "stopped"
    again = list(rollout(tmp_path, length=24).chunks)
    whole = list(rollout(tmp_path / "whole", length=24).chunks)
    assert len(again) > AT
    assert_same_bits(again, whole)
