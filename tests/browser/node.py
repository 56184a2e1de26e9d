"""Run files of `node:test` cases and return their results; start the server they need."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longtake.tests.support.server_process import free_port, serving

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CASE = re.compile(r"^test\(\"(.+?)\"", re.MULTILINE)
TABLED = re.compile(r"^  \"(.+?)\": \w+,$", re.MULTILINE)  # in a table for `inEachPlace`
PLACES = ("classic", "classic, in a subgraph", "Nodes 2.0", "Nodes 2.0, in a subgraph")
# tests/conftest.py binds the checkout, whatever its folder name, to the package name
SERVE = """
import runpy
runpy.run_path("tests/conftest.py")
from longtake.tests.support.player_server import main
main()
"""
START_LIMIT_S = 60
FILE_LIMIT_S = 1800
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def browser() -> str | None:
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def lacking() -> str | None:
    """Return a sentence about a missing requirement of the browser tests, or None."""
    if shutil.which("node") is None:
        return "the player was not tested in a browser: Node.js is not installed"
    if browser() is None:
        return "the player was not tested in a browser: Chromium is not installed"
    if not (HERE / "node_modules" / "playwright-core").is_dir():
        return "the player was not tested in a browser: run `npm ci` in tests/browser first"
    return None


def cases(file: str) -> list[str]:
    """Return the names of a file's cases; cases of a table run in each place."""
    text = (HERE / file).read_text()
    tabled = [f"{place}: {case}" for place in PLACES for case in TABLED.findall(text)]
    return CASE.findall(text) + tabled


def run_cases(file: str, **variables: str) -> dict[str, str | None]:
    """Run a file of cases, and return each case's failure, or None if it passed."""
    reporter = f"--test-reporter={HERE / 'reporter.mjs'}"
    done = subprocess.run(
        ["node", "--test", reporter, str(HERE / file)],
        env={**os.environ, "LONGTAKE_CHROMIUM": browser() or "", **variables},
        capture_output=True,
        text=True,
        timeout=FILE_LIMIT_S,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    if not results:
        raise RuntimeError(f"{file} did not run: {done.stderr}")
    return {result["case"]: result["failure"] for result in results}


@contextmanager
def player_server(log: Path) -> Iterator[str]:
    """Serve the plain page over numbered frames from its own process; yields the address."""
    port = free_port()
    command = [sys.executable, "-c", SERVE, "--port", str(port)]
    with serving(command, port, log, START_LIMIT_S, cwd=ROOT) as address:
        yield address
