"""The command that installs a package for the Python that runs this program."""

from __future__ import annotations

import sys


def pip_install(packages: str) -> str:
    """Such a command for `packages`; plain `pip` may belong to another Python.

    ComfyUI's portable build has a Python of its own, and so does each virtual environment.
    """
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f"{python} -m pip install {packages}"
