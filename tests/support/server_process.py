"""A server in a process of its own, for as long as a test looks at it."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    """A port of this machine that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serving(
    command: Sequence[str], port: int, log: Path, limit_s: float, cwd: Path | None = None
) -> Iterator[str]:
    """The address of the server that `command` starts at `port`, once it answers.

    AssertionError with what it wrote to `log` where it ends, or does not answer within `limit_s`.
    """
    with running(command, port, log, limit_s, cwd):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running(
    command: Sequence[str], port: int, log: Path, limit_s: float, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a server, as in `serving`."""
    with (
        log.open("w") as output,
        subprocess.Popen(command, cwd=cwd, stdout=output, stderr=subprocess.STDOUT) as server,
    ):
        try:
            _wait_for(port, server, log, limit_s)
            yield server
        finally:
            server.terminate()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path, limit_s: float) -> None:
    limit = time.monotonic() + limit_s
    while True:
        assert server.poll() is None and time.monotonic() < limit, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.2)


def next_match(process: subprocess.Popen[str], pattern: str) -> str:
    """The first group of `pattern` in the next line that a program writes with a match."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"the command ended without {pattern}")
