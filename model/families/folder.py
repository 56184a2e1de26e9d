"""What the folders and the files beside a weights file say of it: names, diffusers' configs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAX_FOLDERS = 3  # above the file that may name it, those of a fixed layout not counted
MAX_CONFIG_BYTES = 1_000_000
CLASS = "_class_name"
_CACHE = "models--"  # Hugging Face: models--AUTHOR--NAME/snapshots/COMMIT/...
_LAYOUT = re.compile(r"transformer(_\d)?|snapshots|[0-9a-f]{40}|checkpoints?|weights|original|main")
_ROOT = re.compile(r"models|diffusion_models|wan_models|unet|hub|downloads|home")
_MIXED = re.compile(r"diffusion_models|unet")  # ComfyUI's: its models have nothing in common
_PLAIN_WAN = re.compile(r"wan_?2_?[12]")


def plain_name(path: Path) -> str:
    """The names of a file and of the folders that belong to it, words joined by underscores.

    In Hugging Face's cache these are all down from the repository's. Elsewhere a folder of many
    models, or one that names plain Wan, is the last.
    """
    parents = path.absolute().parents
    cached = next((n for n, p in enumerate(parents) if p.name.startswith(_CACHE)), None)
    own = _own_folders(parents) if cached is None else parents[: cached + 1]
    return _words("/".join([*(parent.name for parent in reversed(own)), path.name]))


def _own_folders(parents: Sequence[Path]) -> list[Path]:
    """The folders that belong to one model, the nearest first; always at least one."""
    own: list[Path] = []
    counted = 0
    for parent in parents:
        plain = _words(parent.name)
        if counted and (_ROOT.fullmatch(plain) or counted == MAX_FOLDERS):
            break
        own.append(parent)
        counted += not _LAYOUT.fullmatch(plain)
        if _PLAIN_WAN.search(plain) or _MIXED.fullmatch(plain):
            break
    return own


def stating_files(path: Path) -> tuple[Path, Path]:
    """Where diffusers states the model in a weights file, and its pipeline."""
    return path.with_name("config.json"), path.parent.parent / "model_index.json"


def declared_classes(path: Path) -> tuple[str, str]:
    """The classes of the model and of its pipeline, as diffusers' files around it say, or ""."""
    model, pipeline = (_config(file).get(CLASS, "") for file in stating_files(path))
    return str(model), str(pipeline)


def declared_depth(path: Path, dim: int) -> int | None:
    """The blocks that `config.json` beside a file states; None where it is of another width.

    A folder of many models may hold the configuration of any of them.
    """
    stated = _config(stating_files(path)[0])
    try:
        heads, size = stated.get("num_attention_heads", 0), stated.get("attention_head_dim", 0)
        width, depth = int(stated.get("dim", heads * size)), int(stated.get("num_layers", 0))
    except (TypeError, ValueError, OverflowError):
        return None
    return depth if width == dim and depth > 0 else None


def _words(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def _config(path: Path) -> dict[str, Any]:
    """A JSON object, or {} where there is none that can be read."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            return {}
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
