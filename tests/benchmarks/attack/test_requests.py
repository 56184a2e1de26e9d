"""What fuzzed requests leave behind: a run that does not end says where it is."""

from __future__ import annotations

import itertools
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from longtake.benchmarks._attack import requests

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals as POSIX has them")
DEAF = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
def stuck_here():
    print("ready", flush=True)
    time.sleep(600)
stuck_here()
"""
SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (time.sleep(0.5), sys.exit(0)))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def page() -> Iterator[requests.Page]:
    with socketserver.TCPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield requests.Page("127.0.0.1", server.server_address[1], "key", "token")
        server.shutdown()


def test_a_machine_that_stood_still_is_not_a_run_that_does_not_end(
    page: requests.Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, hours = tmp_path / "log", itertools.count()
    monkeypatch.setattr(subprocess, "_time", lambda: 3600.0 * next(hours))
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=output, stderr=output)
        while b"ready" not in log.read_bytes():
            assert process.poll() is None
        assert list(requests._end(page, log, process)) == []
    assert process.returncode == 0


def test_a_run_that_does_not_end_says_where_it_is(
    page: requests.Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "END_LIMIT_S", 0.1)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", DEAF], stdout=output, stderr=output
        )
        while b"ready" not in log.read_bytes():
            assert process.poll() is None
        [problem] = requests._end(page, log, process)
    assert problem.startswith("Ctrl-C did not end the run within 0.1 s: ")
    assert "in stuck_here" in problem and "ready" not in problem
    assert process.returncode is not None
