"""A thread beside the one that makes chunks. Calls compute there exactly what they compute here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch

from ..compute_threads import compute_with

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ThreadShares:
    """CPU threads of torch: `main` where chunks are made, `side` on the thread beside it."""

    main: int
    side: int


class SideThread:
    """Runs calls in order, in the inference mode and execution context of the thread that calls.

    `set_interrupt` raises and clears the host's interrupt flag, which only one thread ever sees: an
    interrupt that ends a call here must end the work of the other thread too. Open and close it on
    the same thread.
    """

    def __init__(self, shares: ThreadShares, set_interrupt: Callable[[bool], None]) -> None:
        self._shares, self._set_interrupt = shares, set_interrupt
        self._owner, self._all_threads = threading.get_ident(), torch.get_num_threads()
        self._pool = ThreadPoolExecutor(1, "longtake decode", compute_with, (shares.side,))

    def start(self, call: Callable[P, R], /, *arguments: P.args, **options: P.kwargs) -> Future[R]:
        """Start `call` after all earlier ones."""
        inference = torch.is_inference_mode_enabled()

        def run() -> R:
            try:
                with torch.inference_mode(inference):
                    return call(*arguments, **options)
            except Exception:
                raise
            except BaseException:  # the host's interrupt: the other thread must see it too
                self._set_interrupt(True)
                raise

        return self._pool.submit(copy_context().run, run)

    def wait(self, call: Future[R]) -> R:
        """The result of a call. Its error has the traceback of the side thread."""
        try:
            return call.result()
        except Exception:
            raise
        except BaseException:  # the interrupt arrives here: no later check may raise it again
            self._set_interrupt(False)
            raise

    def interrupt(self, call: Future[R]) -> R:
        """The result of a call that finishes in spite of an interrupt; else raise the interrupt."""
        self._set_interrupt(True)
        try:
            return call.result()
        finally:
            self._set_interrupt(False)

    @contextmanager
    def share_threads(self) -> Iterator[None]:
        """Compute with the main share of the threads within the block."""
        torch.set_num_threads(self._shares.main)
        try:
            yield
        finally:
            torch.set_num_threads(self._all_threads)

    def close(self) -> None:
        """End the thread after its current call."""
        is_owner = threading.get_ident() == self._owner  # else a garbage collector closes it
        self._pool.shutdown(wait=is_owner, cancel_futures=True)
