"""Tells a server that leaves one kind of request without an answer from one that is busy.

ComfyUI answers every request in one thread: while a node holds the interpreter it answers none,
and afterwards all. A server that answers a greeting although an earlier request has no answer yet
will not answer that request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .answers import BadAnswer

SILENT_S = 15.0
"""After so many seconds without an answer the server is greeted, which it must answer in time."""
MAX_SILENCES = 2

T = TypeVar("T")
Probe = Callable[[float], Awaitable[bool]]
"""Whether the server answers a greeting within seconds."""


async def answer_unless_silent(request: Awaitable[T], probe: Probe) -> T:
    """Wait for an answer while the server is busy.

    Raises asyncio.TimeoutError where it answers a later greeting and not the request.
    """
    task = asyncio.ensure_future(request)
    try:
        while not (await asyncio.wait({task}, timeout=SILENT_S))[0]:
            if await probe(SILENT_S) and not task.done():
                raise asyncio.TimeoutError(f"no answer for {SILENT_S:g} s")
        return task.result()
    finally:
        task.cancel()


class Silences:
    """Counts the silences in a row of each route of a server."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._last_end: dict[str, float] = {}

    def forget(self, route: str) -> None:
        """Note that the route has answered."""
        self._counts.pop(route, None)

    def add(self, route: str, began: float) -> None:
        """Note that a request of `began` (monotonic seconds) to a route had no answer.

        Requests that wait at the same time count once. Raises `BadAnswer` for the second silence.
        """
        if began < self._last_end.get(route, 0.0):
            return
        self._last_end[route] = time.monotonic()
        self._counts[route] = self._counts.get(route, 0) + 1
        if self._counts[route] >= MAX_SILENCES:
            raise BadAnswer(f"it greets but twice in a row gave no answer to /{route}")
