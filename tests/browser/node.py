"""Runs files of `node:test` cases and says how each case went; starts the server they look at."""

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
# tests/conftest.py binds the checkout, whatever its folder is called, to the package's name
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
    """The path of a Chromium."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def lacking() -> str | None:
    """What a browser test needs and this machine lacks, as a sentence; None when all is there."""
    if shutil.which("node") is None:
        return "the player was not tried in a browser: there is no Node.js here"
    if browser() is None:
        return "the player was not tried in a browser: there is no Chromium here"
    if not (HERE / "node_modules" / "playwright-core").is_dir():
        return "the player was not tried in a browser: run `npm ci` in tests/browser first"
    return None


def cases(file: str) -> list[str]:
    """The names of a file's cases; those of a table are tried in each place."""
    text = (HERE / file).read_text()
    tabled = [f"{place}: {case}" for place in PLACES for case in TABLED.findall(text)]
    return CASE.findall(text) + tabled


def run_cases(file: str, **variables: str) -> dict[str, str | None]:
    """Run a file of cases: for each its failure, or None where it passed."""
    reporter = f"--test-reporter={HERE / 'reporter.mjs'}"
    done = subprocess.run(
        ["node", "--test", reporter, str(HERE / file)],
        env={**os.environ, "LONGTAKE_CHROMIUM": browser() or "", **variables},
        capture_output=True,
        text=True,
        timeout=FILE_LIMIT_S,
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    if not said:
        raise RuntimeError(f"{file} did not run: {done.stderr}")
    return {each["case"]: each["failure"] for each in said}


@contextmanager
def player_server(log: Path) -> Iterator[str]:
    """The plain page over numbered frames, in a process of its own; gives its address."""
    port = free_port()
    command = [sys.executable, "-c", SERVE, "--port", str(port)]
    with serving(command, port, log, START_LIMIT_S, cwd=ROOT) as address:
        yield address
