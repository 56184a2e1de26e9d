"""A thread that runs one call after another."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeAlias

Calls: TypeAlias = "SimpleQueue[tuple[Future[object], Callable[[], object]] | None]"


class WorkThread:
    """Runs calls in their order; ends with `close`, with its owner or, all done, with the process.

    `start` takes no lock. The garbage collector closes a shot that nobody reads, and may do so
    while this thread holds a lock of `concurrent.futures`: `Executor.submit` would wait for ever.
    """

    def __init__(self, name: str) -> None:
        self._calls: Calls = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=_run, args=(self._calls,), name=name, daemon=True)
        self._thread.start()
        weakref.finalize(self, self._calls.put, None).atexit = False
        _threads.add(self)

    def start(self, call: Callable[[], object]) -> Future[object]:
        """Run `call` after all others; RuntimeError after `close`."""
        if self._closed:
            raise RuntimeError(f"The thread {self._thread.name} is closed.")
        future: Future[object] = Future()
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """Wait for the calls, and end the thread."""
        self._closed = True
        self._calls.put(None)
        self._thread.join()


def _run(calls: Calls) -> None:
    while (waiting := calls.get()) is not None:
        future, call = waiting
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)
        del waiting, future, call  # an idle thread keeps no owner alive


_threads: weakref.WeakSet[WorkThread] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for thread in list(_threads):
        thread.close()
