"""Laws of the live controls: requested on any thread, obeyed by one, never lost or doubled."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import BadInput
from longtake.stream.rollout.live.controls import Controls
from longtake.stream.rollout.live.edit_queue import ENDED, TOO_LATE, Edit
from longtake.tests.support.laws import examples


def nothing() -> None:
    """No check, and nothing to do in a long pause."""


def applied(controls: Controls, first_frame: int = 9) -> Edit | None:
    """Take and apply the queued edit, as the producing thread does."""
    edit = controls.edit_queue.take()
    if edit is not None:
        controls.edit_queue.apply(edit, first_frame, first_frame / 16, "a line")
    return edit


@pytest.mark.parametrize(
    ("asked", "state"),
    [
        ("", "running"), ("pause", "paused"), ("pause resume", "running"), ("resume", "running"),
        ("stop", "stopping"), ("pause stop", "stopping"), ("stop pause", "stopping"),
        ("stop resume", "stopping"), ("pause pause resume", "running"),
    ],
)  # fmt: skip
def test_a_stop_is_final_and_a_pause_is_not(asked: str, state: str) -> None:
    controls = Controls()
    for name in asked.split():
        getattr(controls, name)()
    assert controls.state == state
    controls.end(stopped=True)
    controls.resume()
    controls.end(stopped=False)
    assert controls.state == "stopped"


def test_edits_before_one_chunk_are_one_edit_and_the_later_one_counts() -> None:
    controls = Controls()
    controls.set_prompt("a red ball")
    controls.set_number("guidance", 2)
    controls.set_number("guidance", 3)
    controls.set_prompt("a  blue\n ball ")
    [edit] = controls.edits
    assert (edit.status, edit.text, edit.guidance) == ("queued", "a blue ball", 3.0)
    assert applied(controls) is not None and controls.edit_queue.take() is None
    controls.set_prompt("a green ball")
    assert [edit.status for edit in controls.edits] == ["applied", "queued"]


def test_an_edit_during_the_encoding_of_another_is_the_next_one() -> None:
    controls = Controls()
    controls.set_prompt("one")
    taken = controls.edit_queue.take()
    assert taken is not None and controls.edits[0].status == "encoding"
    controls.set_prompt("two")
    controls.edit_queue.fail(taken, "No CLIP.")
    first, second = controls.edits
    assert (first.status, first.error, second.status, second.text) == (
        "failed",
        "No CLIP.",
        "queued",
        "two",
    )
    with pytest.raises(ValueError, match="not in progress"):
        controls.edit_queue.fail(taken, "again")


def test_an_applied_edit_has_its_start_and_its_line() -> None:
    controls = Controls()
    controls.set_prompt("a ball")
    applied(controls, 33)
    [edit] = controls.edits
    assert (edit.first_frame, edit.start_s, edit.line) == (33, 33 / 16, "a line")


def test_no_edit_waits_after_the_shot_ends() -> None:
    controls = Controls()
    controls.set_prompt("too late")
    controls.end(stopped=False)
    controls.set_prompt("later still")
    assert [edit.error for edit in controls.edits] == [TOO_LATE, ENDED]
    assert {edit.status for edit in controls.edits} == {"failed"} and controls.state == "done"


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), -1.0, 31.0])
def test_impossible_guidance_is_refused(strength: float) -> None:
    controls = Controls()
    with pytest.raises(BadInput, match="give a number from 0 to 30"):
        controls.set_number("guidance", strength)
    assert controls.edits == ()


@pytest.mark.parametrize("over_s", [float("nan"), -1.0, 600.5])
def test_an_impossible_blend_is_refused(over_s: float) -> None:
    controls = Controls()
    with pytest.raises(BadInput, match="from 0 to 600 seconds, beside a prompt"):
        controls.set_prompt("a ball", over_s)
    with pytest.raises(BadInput, match="beside a prompt"):
        controls.change(None, {"guidance": 2.0}, 1.0)
    assert controls.edits == ()


def test_a_blend_of_no_time_at_all_is_none() -> None:
    controls = Controls()
    controls.set_prompt("a ball", 1e-6)
    assert [edit.over_s for edit in controls.edits] == [None]


def test_a_pause_holds_the_producing_thread_until_it_is_resumed() -> None:
    controls = Controls()
    controls.pause()
    checks = 0

    def resume_at_the_third_look() -> None:
        nonlocal checks
        checks += 1
        if checks == 3:
            threading.Thread(target=controls.resume).start()

    controls.wait_while_paused(resume_at_the_third_look, nothing)
    assert checks >= 3 and controls.state == "running" and controls.paused_s > 0


def test_a_stop_and_a_cancel_end_a_pause() -> None:
    controls = Controls()
    controls.pause()
    controls.wait_while_paused(controls.stop, nothing)
    assert controls.state == "stopping"

    class Cancelled(BaseException):
        """A host's interrupt."""

    def cancel() -> None:
        raise Cancelled

    other = Controls()
    other.pause()
    with pytest.raises(Cancelled):
        other.wait_while_paused(cancel, nothing)


def test_a_long_pause_is_reported_once() -> None:
    controls = Controls(long_pause_s=0.0)
    controls.pause()
    told: list[None] = []
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            controls.resume()

    controls.wait_while_paused(look, lambda: told.append(None))
    assert told == [None]
    Controls().wait_while_paused(nothing, lambda: told.append(None))
    assert told == [None]


REQUESTS: list[Callable[[Controls], None]] = [
    Controls.pause, Controls.resume, Controls.stop, lambda c: c.set_prompt("a ball"),
    lambda c: c.set_number("guidance", 2.0), lambda c: c.notify("a sentence"),
    lambda c: c.end(stopped=True), lambda c: applied(c) and None,
]  # fmt: skip


@examples(100)
@given(st.lists(st.sampled_from(REQUESTS), max_size=12))
def test_every_change_reaches_listeners(
    requests: list[Callable[[Controls], None]],
) -> None:
    controls = Controls()
    seen: list[object] = []

    def snapshot() -> object:
        return controls.state, controls.edits, controls.message

    stop_listening = controls.listen(lambda: seen.append(snapshot()))
    for request in requests:
        before, count = snapshot(), len(seen)
        request(controls)
        if snapshot() != before:
            assert len(seen) > count and seen[-1] == snapshot()
        assert sum(edit.status == "queued" for edit in controls.edits) <= 1
    stop_listening()
    told = len(seen)
    controls.notify("nobody listens")
    assert len(seen) == told


def test_no_request_of_many_threads_is_lost() -> None:
    """Every text is applied or replaced by a later one before the same chunk.

    Edits settle in the order of their requests.
    """
    controls = Controls()
    asked = threading.Barrier(5)
    obeyed: list[str] = []

    def ask(name: str) -> None:
        asked.wait()
        for number in range(50):
            controls.set_prompt(f"{name} {number}")
            controls.set_number("guidance", number % 30)

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    asked.wait()
    while any(thread.is_alive() for thread in threads) or controls.edits[-1].status == "queued":
        edit = applied(controls, len(obeyed))
        obeyed += [edit.text or ""] if edit else []
    assert len(obeyed) == len(controls.edits)
    assert [edit.first_frame for edit in controls.edits] == list(range(len(obeyed)))
    for name in "abcd":
        numbers = [int(text.split()[1]) for text in obeyed if text.startswith(name)]
        assert numbers == sorted(numbers)
