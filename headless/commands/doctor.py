"""`longtake doctor`: check everything a run needs and report what is missing."""

from __future__ import annotations

from pathlib import Path

import torch

from ... import installation
from ...core.checkout import check_checkout, core_python
from ...errors import LongtakeError
from ...installation import Finding
from ..machine import free_memory_bytes
from ..runner import prepare_folder


def examine(out_dir: Path, comfy: Path | None) -> list[Finding]:
    """Return all findings for this Python, machine, output folder and ComfyUI."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return [
        *installation.software(),
        *installation.devices(free_memory_bytes()),
        *installation.attention(device),
        _folder(out_dir),
        _comfy(comfy),
        *installation.copies(comfy),
        *installation.extras(),
    ]


def _folder(out_dir: Path) -> Finding:
    try:
        prepare_folder(out_dir)
    except LongtakeError as error:
        return Finding("bad", "output", str(error))
    return installation.folder("output", out_dir.resolve())


def _comfy(comfy: Path | None) -> Finding:
    if comfy is None:
        return Finding(
            "note",
            "ComfyUI",
            "no checkout given (--comfy or COMFYUI_PATH); the built-in stand-in runs workflows",
        )
    try:
        version, python = check_checkout(comfy), core_python(comfy)
    except LongtakeError as error:
        return Finding("bad", "ComfyUI", str(error))
    return Finding("ok", "ComfyUI", f"{version} in {comfy}, with {python}")
