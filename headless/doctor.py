"""`longtake doctor`: look at everything a run needs and say what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import LongtakeError
from .machine import free_memory_bytes
from .real_core import check_checkout, core_python
from .runner import prepare_folder

PACKAGES = ("torch", "numpy", "safetensors", "einops", "av", "pillow")
ENCODERS = {"h264": "MP4 video", "ffv1": "lossless MKV video"}
LOW_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: state is ok, note (works without) or bad."""

    state: str
    subject: str
    text: str


def examine(out_dir: Path, comfy: Path | None) -> list[Finding]:
    """All findings for this Python, this machine, this output folder and this ComfyUI."""
    python = Finding(
        "ok",
        "python",
        f"{platform.python_version()} on {platform.platform(terse=True)} ({sys.executable})",
    )
    return [
        python,
        *map(_package, PACKAGES),
        _device(),
        *_encoders(),
        *_folder(out_dir),
        _memory(),
        _comfy(comfy),
    ]


def _package(name: str) -> Finding:
    try:
        return Finding("ok", name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "bad", name, f"not installed; run: {Path(sys.executable).name} -m pip install {name}"
        )


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return Finding(
            "ok", "device", f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
    return Finding(
        "ok", "device", f"CPU, {torch.get_num_threads()} threads of {os.cpu_count()} cores"
    )


def _encoders() -> list[Finding]:
    import av

    available = av.codecs_available
    return [
        Finding("ok", "encoder", f"{codec} ({use})")
        if codec in available or f"lib{codec.replace('h', 'x')}" in available
        else Finding("bad", "encoder", f"{codec} is missing ({use}); reinstall av from its wheel")
        for codec, use in ENCODERS.items()
    ]


def _folder(out_dir: Path) -> list[Finding]:
    try:
        prepare_folder(out_dir)
    except LongtakeError as error:
        return [Finding("bad", "output", str(error))]
    free = shutil.disk_usage(out_dir).free
    state = "ok" if free > LOW_BYTES else "note"
    return [
        Finding("ok", "output", str(out_dir.resolve())),
        Finding(state, "disk", f"{free / 2**30:.1f} GiB free"),
    ]


def _memory() -> Finding:
    free = free_memory_bytes()
    return Finding("ok" if free > LOW_BYTES else "note", "memory", f"{free / 2**30:.1f} GiB free")


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
