"""A server in a process of its own, for as long as a test looks at it."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PORTS = range(20_000, 32_768)  # below those that systems give to connections and to port 0
NAP_S = 0.2


def free_port() -> int:
    """A port of this machine that nothing uses now, nor soon: the system gives it to nobody.

    Tests beside this one make many connections, each of which has a port for a while.
    """
    dice = random.SystemRandom()  # of two processes with the same seed, each has its own
    while True:
        port = dice.choice(PORTS)
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            try:
                stream.bind(("127.0.0.1", port))
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
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
    for _ in range(round(limit_s / NAP_S)):  # naps, since the whole machine may stand still
        assert server.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(NAP_S)
    raise AssertionError(log.read_text())


def next_match(process: subprocess.Popen[str], pattern: str) -> str:
    """The first group of `pattern` in the next line that a program writes with a match."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"the command ended without {pattern}")
