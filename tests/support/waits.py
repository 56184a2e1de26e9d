"""Runs programs on devices that do not exist, each in a process of its own.

Such a device needs no accelerator, and stays for the life of its process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from torch.utils import backend_registration

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import gc, runpy, sys
runpy.run_path("tests/conftest.py")
from longtake.tests.support.{module} import main
gc.collect()
gc.freeze()  # what was imported lives as long as the process, and is much
main(sys.argv[1:])
"""
needs_fake_devices = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no devices in Python",
)


@cache
def run_apart(module: str, *arguments: str) -> Any:
    """The JSON that a module in `tests/support` writes, from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module), *arguments],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def waits(module: str, *arguments: str) -> dict[str, dict[str, int]]:
    """Where each case of a module in `tests/support` waits for the device, and how often."""
    places: dict[str, dict[str, int]] = run_apart(module, *arguments)
    return places
