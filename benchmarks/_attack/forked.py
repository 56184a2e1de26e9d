"""Runs a function in a process of its own, which may hang, die or take too much memory."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...errors import LongtakeError

if sys.platform != "win32":
    import resource

EXTRA_BYTES = 2 << 30  # what an attempt may allocate


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: `done` with a text, `refused` with a sentence, or badly.

    Bad ends are `traceback` (an exception that is not for users), `hang` and `killed`.
    """

    end: str
    text: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether a user would have met a traceback, a hang or a crash."""
        return self.end not in ("done", "refused")


@dataclass(frozen=True, slots=True)
class Call:
    """A function that runs in a process of its own."""

    process: int
    pipe: int

    def outcome(self, limit_s: float) -> Outcome:
        """Wait for the end, at most `limit_s`, and kill what has not ended."""
        content = _read(self.pipe, limit_s)
        if content is None:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
            return Outcome("hang", f"no end after {limit_s:g} s")
        _, status = os.waitpid(self.process, 0)
        if not content:
            return Outcome("killed", f"the process ended with status {status}")
        return Outcome(*json.loads(content))


def start(function: Callable[[], str], extra_bytes: int | None = None) -> Call:
    """Call `function` in a forked process, which may allocate `extra_bytes`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            if extra_bytes is not None:
                _limit_memory(extra_bytes)
            os.write(writing, json.dumps(_outcome(function)).encode())
        finally:
            os._exit(0)  # must not run the parent's clean-up
    os.close(writing)
    return Call(child, reading)


def call(function: Callable[[], str], limit_s: float) -> Outcome:
    """Call `function` in a forked process with a limit on time and memory."""
    return start(function, EXTRA_BYTES).outcome(limit_s)


def _outcome(function: Callable[[], str]) -> tuple[str, str]:
    try:
        return "done", function()
    except LongtakeError as error:
        return "refused", str(error)
    except BaseException:
        return "traceback", traceback.format_exc()[-4000:]


def _read(descriptor: int, limit_s: float) -> bytes | None:
    """Everything that the other end writes until it closes; None after `limit_s`."""
    content, until = b"", time.monotonic() + limit_s
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        while time.monotonic() < until:
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            piece = pipe.read(1 << 16)
            if not piece:
                return content
            content += piece
    return None


def _limit_memory(extra_bytes: int) -> None:
    """Let this process allocate that much more than it has, where the system counts it."""
    counts = Path("/proc/self/statm")
    if sys.platform != "win32" and counts.exists():
        used = int(counts.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + extra_bytes, used + extra_bytes))
