"""`longtake run --watch` as a user runs it: the command, its address in Chromium, Ctrl-C.

The cases are in watch_cases.mjs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from longtake.tests.support.server_process import next_match

from .node import ROOT, lacking, run_cases

FILE = "watch_cases.mjs"
WORKFLOW = ROOT / "example_workflows" / "api" / "1_text_to_stream.json"
# tests/conftest.py binds the checkout; a job in the background would ignore Ctrl-C
RUN = """
import runpy, signal
runpy.run_path("tests/conftest.py")
signal.signal(signal.SIGINT, signal.default_int_handler)
from longtake.headless.cli import main
main()
"""
SHORT = ("LongtakeSampler.length=1", "LongtakeSchedule.steps=1", "LongtakeSampler.cfg=1")


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(lacking() is not None, reason=lacking() or "")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.timeout(600)
def test_a_run_is_watched_in_a_browser_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    changes = [part for change in SHORT for part in ("--set", change)]
    command = [sys.executable, "-c", RUN, "run", str(WORKFLOW), "--watch", "--out", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    with subprocess.Popen(
        [*command, *changes], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            url = next_match(process, r"Watch it at (http://127\.0\.0\.1:\d+/#\S+)")
            failures = {case: why for case, why in run_cases(FILE, LONGTAKE_URL=url).items() if why}
            next_match(process, r"(The player stays at)")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert not failures, failures
    assert process.returncode == 0
