"""Drive a run of the real command in Chromium for `longtake bench drive`.

The plan comes on stdin, the result goes to stdout; `live_drive.mjs` is the driver.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from longtake.tests.browser.node import ROOT, browser, lacking
from longtake.tests.support.server_process import next_match

WORKFLOW = ROOT / "example_workflows" / "api" / "drive_live.json"
DRIVER = Path(__file__).with_suffix(".mjs")
# tests/conftest.py binds the checkout; a job in the background would ignore Ctrl-C
RUN = """
import runpy, signal
runpy.run_path("tests/conftest.py")
signal.signal(signal.SIGINT, signal.default_int_handler)
from longtake.headless.start import main
main()
"""
END_S = 60


def main() -> None:
    """Drive one run, or exit with a message about missing requirements."""
    if (words := lacking()) is not None:
        sys.exit(words)
    with TemporaryDirectory() as folder:
        json.dump(drive(json.load(sys.stdin), Path(folder)), sys.stdout)


def drive(plan: dict[str, Any], out: Path) -> dict[str, Any]:
    """Start the run, drive it as `plan` says, end it, and return what was seen with its report."""
    report = out / "report.json"
    changes = [part for change in plan["changes"] for part in ("--set", change)]
    command = [
        sys.executable, "-c", RUN, "run", str(WORKFLOW), "--watch", "--out", str(out), "--report",
        str(report), *changes,
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            url = next_match(process, r"Watch it at (http://127\.0\.0\.1:\d+/#\S+)")
            seen = _drive_in_chromium(plan, url)
            next_match(process, r"(The player stays at)")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=END_S)
        finally:
            process.kill()
    return {**seen, "report": json.loads(report.read_text())}


def _drive_in_chromium(plan: dict[str, Any], url: str) -> dict[str, Any]:
    environment = {**os.environ, "LONGTAKE_URL": url, "LONGTAKE_CHROMIUM": browser() or ""}
    done = subprocess.run(
        ["node", str(DRIVER)], env=environment, input=json.dumps(plan), text=True,
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen
