"""Laws of converting one chunk behind: nothing lost, doubled or reordered, and one chunk ahead."""

from __future__ import annotations

import gc
import threading
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import pytest
import torch

from longtake.stream.lazy.ahead import convert_ahead
from longtake.stream.lazy.side_thread import SideThread, ThreadShares

WAIT_S = 60.0
NODE: ContextVar[str] = ContextVar("NODE", default="none")


class Interrupt(BaseException):
    """A host's interrupt."""


class Studio:
    """Makes numbers, converts them on the side thread, and notes what happens in which order."""

    def __init__(self, count: int = 4) -> None:
        self.events: list[str] = []
        self.interrupted = False
        self.urgent: set[int] = set()
        self.held: list[bool] = []  # while each number is made, and at the end
        self.prepared: list[int] = []  # the threads that did
        self.alone = {0}
        self.on_make: dict[int, Callable[[], None]] = {}
        self.on_convert: dict[int, Callable[[], None]] = {}
        self.converting = {index: threading.Event() for index in range(count)}
        self._count = count

    def read(self) -> Iterator[int]:
        """The converted numbers: each ten times itself."""
        side = SideThread(ThreadShares(1, 1), self._set_interrupt)
        return convert_ahead(self._make(), self, side)

    def prepare(self) -> None:
        self.prepared.append(threading.get_ident())

    def is_urgent(self, last: int | None) -> bool:
        return last is None or last in self.urgent

    def is_alone(self, number: int) -> bool:
        return number in self.alone

    def note_held(self, is_held: bool) -> None:
        self.held.append(is_held)

    def check(self) -> None:
        """A host's check, on any thread: raises once."""
        if self.interrupted:
            self.interrupted = False
            raise Interrupt

    def note_read(self) -> list[int]:
        """Read everything, noting each delivery."""
        read = []
        for value in self.read():
            self.events.append(f"delivered {value // 10}")
            read.append(value)
        return read

    def _set_interrupt(self, interrupted: bool) -> None:
        self.interrupted = interrupted

    def _make(self) -> Iterator[int]:
        for number in range(self._count):
            self.on_make.get(number, lambda: None)()
            self.events.append(f"made {number}")
            yield number

    def convert(self, number: int) -> int:
        self.converting[number].set()
        self.on_convert.get(number, lambda: None)()
        self.events.append(f"converted {number}")
        return 10 * number


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2 and not side_threads()
    torch.set_num_threads(before)


def side_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("longtake decode")]


def test_a_chunk_is_converted_while_the_next_one_is_made() -> None:
    """Chunk 2 is made only once the conversion of chunk 1 runs, which waits for chunk 2."""
    studio, made = Studio(), threading.Event()
    studio.on_make[2] = lambda: assert_set(studio.converting[1])
    studio.on_make[3] = made.set
    studio.on_convert[2] = lambda: assert_set(made)
    assert studio.note_read() == [0, 10, 20, 30]


def assert_set(event: threading.Event) -> None:
    assert event.wait(WAIT_S)


def test_it_tells_whether_a_chunk_is_held_back_while_the_next_one_is_made() -> None:
    """After an urgent chunk none is; and an urgent chunk lets the one before it go first."""
    studio = Studio(6)
    studio.urgent = {3}
    assert studio.note_read() == [0, 10, 20, 30, 40, 50]
    assert studio.held == [False, False, True, True, False, False, True]


def test_the_first_chunk_is_delivered_at_once_and_at_most_one_is_ahead() -> None:
    studio = Studio(6)
    assert studio.note_read() == [0, 10, 20, 30, 40, 50]
    assert studio.events[:3] == ["made 0", "converted 0", "delivered 0"]
    for number in range(6):
        place = studio.events.index(f"delivered {number}")
        assert f"made {number + 2}" not in studio.events[:place]
    for word in ("made", "converted", "delivered"):
        assert [e for e in studio.events if e.startswith(word)] == [f"{word} {n}" for n in range(6)]


def test_before_an_urgent_chunk_everything_is_delivered_and_then_that_chunk() -> None:
    studio = Studio(5)
    studio.urgent = {2}  # asked for after chunk 2 was made: chunk 3 obeys
    assert studio.note_read() == [0, 10, 20, 30, 40]
    order = [event for event in studio.events if not event.startswith("converted")]
    place = order.index("delivered 2")
    assert order[place : place + 4] == ["delivered 2", "made 3", "delivered 3", "made 4"]


@pytest.mark.parametrize("alone", [set[int](), {0}, {3}, {0, 3}])
def test_a_chunk_that_is_alone_is_converted_by_the_reader_with_all_its_threads(
    alone: set[int],
) -> None:
    """Others are not, though chunk 2 is urgent too."""
    studio, converted = Studio(4), list[tuple[bool, int]]()
    studio.urgent, studio.alone, reader = {1}, alone, threading.get_ident()

    def look() -> None:
        converted.append((threading.get_ident() == reader, torch.get_num_threads()))

    studio.on_convert = dict.fromkeys(range(4), look)
    assert studio.note_read() == [0, 10, 20, 30]
    assert converted == [(True, 2) if number in alone else (False, 1) for number in range(4)]
    assert studio.prepared == [reader] * 4


def test_before_a_last_chunk_that_is_alone_the_one_before_it_is_delivered() -> None:
    studio = Studio(4)
    studio.alone = {0, 3}
    assert studio.note_read() == [0, 10, 20, 30]
    assert studio.events[-3:] == ["delivered 2", "converted 3", "delivered 3"]


@pytest.mark.parametrize("error", [RuntimeError, Interrupt])
def test_a_failure_of_the_opening_conversion_ends_the_making(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error("no more")

    studio = Studio(4)
    studio.on_convert[0] = fail
    with pytest.raises(error, match="no more"):
        next(studio.read())
    assert studio.events == ["made 0"] and not studio.interrupted


def test_the_side_thread_computes_as_the_thread_that_reads() -> None:
    seen: list[object] = []
    studio = Studio(3)
    studio.on_convert[1] = lambda: seen.extend(
        [NODE.get(), torch.is_inference_mode_enabled(), torch.get_num_threads()]
    )
    token = NODE.set("decode")
    try:
        with torch.inference_mode():
            assert list(studio.read()) == [0, 10, 20]
    finally:
        NODE.reset(token)
    assert seen == ["decode", True, 1]
    studio.on_convert[1] = lambda: seen.append(torch.is_inference_mode_enabled())
    assert list(studio.read()) == [0, 10, 20] and seen[-1] is False


def test_an_error_of_the_side_thread_arrives_with_its_traceback_at_the_next_chunk() -> None:
    def fail() -> None:
        raise ValueError("no such picture")

    studio = Studio(5)
    studio.on_convert[2] = fail
    reader = studio.read()
    assert [next(reader), next(reader)] == [0, 10]
    with pytest.raises(ValueError, match="no such picture") as failure:
        next(reader)
    assert "in fail" in "".join(traceback.format_tb(failure.value.__traceback__))
    assert "made 4" not in studio.events and not studio.interrupted


@pytest.mark.parametrize("error", [RuntimeError, Interrupt, KeyboardInterrupt])
def test_what_ends_the_making_ends_it_after_the_last_conversion(
    error: type[BaseException],
) -> None:
    def fail() -> None:
        raise error("no more")

    studio = Studio(4)
    studio.on_make[2] = fail
    reader = studio.read()
    assert [next(reader), next(reader)] == [0, 10]
    with pytest.raises(error, match="no more") as failure:
        next(reader)
    assert "in fail" in "".join(traceback.format_tb(failure.value.__traceback__))
    assert not studio.interrupted and list(reader) == []


def test_an_interrupt_on_the_side_thread_ends_the_making_too() -> None:
    """Its flag is seen only once: here by the conversion, while a chunk is being made."""
    studio, taken = Studio(4), threading.Event()

    def check_first() -> None:
        studio.interrupted = True
        try:
            studio.check()
        finally:
            taken.set()

    def check_until_interrupted() -> None:
        assert taken.wait(WAIT_S)
        deadline = threading.Event()
        for _ in range(1000):
            studio.check()
            deadline.wait(WAIT_S / 1000)

    studio.on_convert[1] = check_first
    studio.on_make[2] = check_until_interrupted
    reader = studio.read()
    assert next(reader) == 0
    with pytest.raises(Interrupt):
        next(reader)
    assert "made 2" not in studio.events and not studio.interrupted


def test_an_interrupt_of_the_making_ends_a_conversion_that_checks() -> None:
    studio = Studio(4)

    def convert_for_ever() -> None:
        for _ in range(1000):
            studio.check()
            threading.Event().wait(WAIT_S / 1000)
        raise AssertionError("never interrupted")

    def interrupt() -> None:
        assert_set(studio.converting[1])
        raise Interrupt

    studio.on_convert[1], studio.on_make[2] = convert_for_ever, interrupt
    reader = studio.read()
    assert next(reader) == 0
    with pytest.raises(Interrupt):
        next(reader)
    assert not studio.interrupted


def test_a_reader_that_stops_ends_the_thread_and_keeps_nothing() -> None:
    studio = Studio(6)
    reader = studio.read()
    assert [next(reader), next(reader)] == [0, 10] and side_threads()
    del reader
    gc.collect()
    assert not side_threads() and torch.get_num_threads() == 2


def test_a_reader_that_another_thread_drops_ends_without_waiting() -> None:
    studio, proceed = Studio(4), threading.Event()
    studio.on_convert[1] = lambda: assert_set(proceed)
    readers = [studio.read()]
    assert next(readers[0]) == 0
    made = threading.Event()
    studio.on_make[2] = made.set

    def drop() -> None:
        readers.clear()

    reader_thread = threading.Thread(target=drop)
    reader_thread.start()
    reader_thread.join(WAIT_S)
    assert not reader_thread.is_alive()
    proceed.set()
    deadline = threading.Event()
    for _ in range(1000):
        if not side_threads():
            break
        deadline.wait(WAIT_S / 1000)
