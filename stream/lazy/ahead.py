"""Converts the chunks of a stream one chunk behind: each while the next one is made.

    made          0 | 1 | 2 | 3 |
    converted     0 .   1 | 2 | 3
    delivered      0    .   1 | 2 | 3

The first chunk is delivered at once, and so is every urgent one. At most one chunk is ahead. While
the shot's first and last chunks are converted nothing is made, so these have all threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Protocol, TypeVar

from .side_thread import SideThread

S = TypeVar("S")
T = TypeVar("T")
S_contra = TypeVar("S_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)


class Conversion(Protocol[S_contra, T_co]):
    """What is done with each chunk, and when."""

    def is_alone(self, chunk: S_contra, /) -> bool:
        """Whether nothing is to be made while a chunk is converted: a shot's first or last one.

        It is then converted with all threads of torch, on the thread that makes chunks. How many
        threads compute changes the last bits, so the answer is always the same for a chunk.
        """

    def prepare(self) -> None:
        """Called on the thread that makes chunks before each conversion."""

    def convert(self, chunk: S_contra, /) -> T_co:
        """Convert a chunk, on either thread."""

    def is_urgent(self, last: S_contra | None, /) -> bool:
        """Whether, after chunk `last` (None at the beginning), it and the chunk that follows must
        be delivered before anything else is made.
        """

    def note_held(self, is_held: bool, /) -> None:
        """Hear, before each chunk is made, whether the one before it is held back meanwhile."""


def convert_ahead(
    chunks: Iterator[S], conversion: Conversion[S, T], side: SideThread
) -> Iterator[T]:
    """Yield the conversion of every chunk, in order, made on `side`.

    `chunks` are made with a share of the threads whenever one may be converted meanwhile.

    Where making a chunk fails or is interrupted, the chunk before it is delivered first and the
    failure raised at the next read.
    """
    running: list[Future[T]] = []  # one at most
    chunk: S | None = None
    try:
        while True:
            urgent = conversion.is_urgent(chunk)
            if urgent:
                yield from _deliver(side, running)
            conversion.note_held(bool(running))
            try:
                chunk = next(chunks, None)
            except BaseException as failure:
                if running:
                    yield _last(side, running.pop(), failure)
                raise
            if chunk is None:
                break
            if conversion.is_alone(chunk):
                yield from _deliver(side, running)
                conversion.prepare()
                yield conversion.convert(chunk)
                continue
            before = [side.wait(call) for call in running]
            conversion.prepare()
            running[:] = [side.start(conversion.convert, chunk)]
            if urgent:
                yield from _deliver(side, running)
            while before:
                yield before.pop()  # hold one conversion only while the next chunk is made
        yield from _deliver(side, running)
    finally:
        side.close()


def _deliver(side: SideThread, running: list[Future[T]]) -> Iterator[T]:
    """Wait for the conversion that runs, if one does."""
    while running:
        yield side.wait(running.pop())


def _last(side: SideThread, running: Future[T], failure: BaseException) -> T:
    """The conversion that runs while another chunk fails; if it fails too, raise both."""
    try:
        return side.wait(running) if isinstance(failure, Exception) else side.interrupt(running)
    except BaseException as error:
        raise failure from error
