"""`folder_paths` in the stand-in: model files, and names for output files."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from ....errors import BadInput

MODELS, INPUT = Path("models"), Path("input")  # in the working folder, as in a ComfyUI checkout
NUMBER = re.compile(r"_([0-9]+)(?![^_.])")
MODEL_SUFFIXES = (".safetensors", ".sft", ".pt", ".pth", ".bin", ".ckpt")

CLOCK = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}


def get_filename_list(folder_name: str) -> list[str]:
    """Return the names of the model files in `models/FOLDER_NAME` and its subfolders."""
    folder = MODELS / folder_name
    files = (path for path in folder.rglob("*") if path.suffix in MODEL_SUFFIXES)
    return sorted(path.relative_to(folder).as_posix() for path in files)


def get_full_path_or_raise(folder_name: str, filename: str) -> str:
    path = MODELS / folder_name / filename
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return str(path)


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    """Return folder, name, next free number, subfolder and prefix, as the core does."""
    sized = _fill_in(filename_prefix, image_width, image_height)
    prefix = Path(sized)
    root, folder = Path(output_dir).resolve(), (Path(output_dir) / prefix.parent).resolve()
    if not folder.is_relative_to(root):
        raise BadInput(
            f"filename_prefix {filename_prefix!r} leaves the folder {root}; use a plain name."
        )
    folder.mkdir(parents=True, exist_ok=True)
    last = max((_number(name, prefix.name) for name in os.listdir(folder)), default=0)
    subfolder = "" if prefix.parent == Path() else str(prefix.parent)
    return str(folder), prefix.name, last + 1, subfolder, sized


def _number(name: str, prefix: str) -> int:
    """The number after a prefix and `_` in a file's name; 0 if the file is not of this prefix.

    `clip_2x_00001_.mp4` is no file number 2 of `clip`. A prefix may have [ or *.
    """
    own, begin = os.path.normcase(name), os.path.normcase(prefix)
    match = NUMBER.match(own[len(begin) :]) if own.startswith(begin) else None
    return int(match[1]) if match else 0


def _fill_in(prefix: str, width: int, height: int) -> str:
    """Replace the tokens that the core replaces; the canvas has replaced the others."""
    prefix = prefix.replace("%width%", str(width)).replace("%height%", str(height))
    for token, part in CLOCK.items():
        prefix = prefix.replace(f"%{token}%", time.strftime(part))
    return prefix
