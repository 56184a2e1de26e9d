"""Runs canvas.mjs, which drives ComfyUI's own front end in Chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "browser" / "canvas" / "canvas.mjs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LIMIT_S = 1200


def drive(url: str, steps: list[dict[str, Any]]) -> list[Any]:
    """What the steps gave; skips the test where node, Chromium or playwright-core is missing."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or shutil.which("node") is None:
        pytest.skip("needs node and Chromium")
    done = subprocess.run(
        ["node", str(SCRIPT), url],
        input=json.dumps(steps),
        env={**os.environ, "LONGTAKE_CHROMIUM": browser},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if "ERR_MODULE_NOT_FOUND" in done.stderr:
        pytest.skip("needs playwright-core (npm install in tests/browser)")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))
