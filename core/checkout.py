"""A real ComfyUI checkout: whether it can be used, and which Python runs it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import BadInput
from ..versions import version_numbers

MINIMUM_VERSION = "0.21"  # first core with interrupts as BaseException and causal Wan models
CORE_PACKAGES = ("torchsde", "aiohttp", "transformers")


@dataclass(frozen=True, slots=True)
class ComfyCore:
    """The ComfyUI checkout in `folder`, and the `flags` its core starts with, such as --lowvram."""

    folder: Path
    flags: tuple[str, ...] = ()


def check_checkout(comfy: Path) -> str:
    """Return the version of the ComfyUI in `comfy`; raise `BadInput` if it cannot be used."""
    if not (comfy / "nodes.py").is_file() or not (comfy / "comfy_api").is_dir():
        raise BadInput(
            f"--comfy {comfy} is not a ComfyUI checkout (it lacks nodes.py or comfy_api); "
            "check the path."
        )
    version_file = comfy / "comfyui_version.py"
    text = version_file.read_text(encoding="utf-8") if version_file.is_file() else ""
    stated = re.search(r"""^__version__\s*=\s*["'](.+?)["']""", text, re.MULTILINE)
    version = stated[1] if stated else "0"
    if version_numbers(version) < version_numbers(MINIMUM_VERSION):
        raise BadInput(
            f"ComfyUI in {comfy} is version {version}; update it, Longtake needs "
            f"{MINIMUM_VERSION} or newer."
        )
    return version


def core_python(comfy: Path) -> Path:
    """Return a Python with the core's packages: this one, else the checkout's environment."""
    if all(importlib.util.find_spec(name) for name in CORE_PACKAGES):
        return Path(sys.executable)
    places = (
        "venv/bin/python",
        ".venv/bin/python",
        "venv/Scripts/python.exe",
        ".venv/Scripts/python.exe",
    )
    for candidate in [
        *(comfy / place for place in places),
        comfy.parent / "python_embeded/python.exe",
    ]:
        if candidate.is_file():
            return candidate.absolute()
    raise BadInput(
        f"No Python with ComfyUI's packages was found for {comfy} (looked in its venv and .venv); "
        "install longtake into the Python that runs ComfyUI and start it from there."
    )


def start_core(
    comfy: Path, arguments: Sequence[str], log: IO[str], **options: Any
) -> subprocess.Popen[str]:
    """Start the checkout's Python in its folder, with text pipes; what it prints goes to `log`."""
    return subprocess.Popen(
        [str(core_python(comfy)), *arguments],
        cwd=comfy,
        env={**os.environ, "PYTHONPATH": str(comfy.resolve())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        encoding="utf-8",
        **options,
    )
