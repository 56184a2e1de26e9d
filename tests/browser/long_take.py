"""Watch a long take in Chromium for `longtake bench player`: plan on stdin, result on stdout.

Server and page are those of the tests; `long_take.mjs` is the viewer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from longtake.tests.browser.node import HERE, browser, lacking, player_server


def main() -> None:
    """Watch the take, or exit with a message about missing requirements."""
    if (words := lacking()) is not None:
        sys.exit(words)
    with TemporaryDirectory() as folder, player_server(Path(folder) / "log") as url:
        environment = {**os.environ, "LONGTAKE_URL": url, "LONGTAKE_CHROMIUM": browser() or ""}
        viewer = ["node", str(HERE / "long_take.mjs")]
        sys.exit(subprocess.run(viewer, env=environment).returncode)
