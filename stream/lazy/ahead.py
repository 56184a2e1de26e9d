"""Converts the chunks of a stream one chunk behind: each while the next one is made.

    made          0 | 1 | 2 | 3 |
    converted     0 .   1 | 2 | 3
    delivered      0    .   1 | 2 | 3

The first chunk is delivered at once, and so is every urgent one. Nothing else is to be done until
then, so the thread that makes chunks converts it, with all of its threads. At most one chunk is
ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from .side_thread import SideThread

S = TypeVar("S")
T = TypeVar("T")


def convert_ahead(
    chunks: Iterator[S],
    convert: Callable[[S], T],
    side: SideThread,
    prepare: Callable[[], None],
    is_urgent: Callable[[S | None], bool],
    note_held: Callable[[bool], None],
) -> Iterator[T]:
    """Yield the conversion of every chunk, in order; on `side` those that nobody waits for.

    `prepare` is called on this thread before each conversion. `is_urgent` tells, after chunk x
    (None at the beginning), whether x and the chunk that follows must be delivered before anything
    else is made. `note_held` hears, before each chunk is made, whether the one before it is held
    back meanwhile. Where making a chunk fails or is interrupted, the chunk before it is delivered
    first and the failure raised at the next read.
    """
    running: Future[T] | None = None
    chunk: S | None = None
    try:
        while True:
            urgent = is_urgent(chunk)
            if urgent and running is not None:
                yield side.wait(running)
                running = None
            note_held(running is not None)
            try:
                with side.share_threads():
                    chunk = next(chunks, None)
            except BaseException as failure:
                if running is not None:
                    yield _last(side, running, failure)
                raise
            if chunk is None:
                break
            before = None if running is None else side.wait(running)
            prepare()
            if urgent:
                yield convert(chunk)
                continue
            running = side.start(convert, chunk)
            if before is not None:
                yield before
            del before  # hold one conversion only while the next chunk is made
        if running is not None:
            yield side.wait(running)
    finally:
        side.close()


def _last(side: SideThread, running: Future[T], failure: BaseException) -> T:
    """The conversion that runs while another chunk fails; if it fails too, raise both."""
    try:
        return side.wait(running) if isinstance(failure, Exception) else side.interrupt(running)
    except BaseException as error:
        raise failure from error
