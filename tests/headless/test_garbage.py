"""How often the program looks for garbage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COUNTING = """\
import atexit, gc, runpy, sys
atexit.register(lambda: print("walks:", gc.get_stats()[2]["collections"]))
sys.argv = ["longtake", "--help"]
"""
STARTS = {
    "the program": "from longtake.headless.start import main; main()",
    "the module": "runpy.run_module('longtake.headless.cli', run_name='__main__')",
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_nothing_walks_through_all_objects_while_torch_loads(tmp_path: Path, start: str) -> None:
    (tmp_path / "longtake").symlink_to(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", COUNTING + start], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "walks: 0"
