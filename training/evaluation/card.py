"""The model card: all measurements as Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

import torch

from ...attention.recall.window import RecallWindow
from ...model.preset import DEMO
from ...model.preset_cache import preset_cache
from ..world.attributes import vocabulary
from .estimate import Estimate
from .kit import Recipe, network_files

Results = dict[str, dict[str, Estimate]]
"""Measurement -> quantity -> estimate."""


def card(results: Results, folder: Path, recipe: Recipe, elapsed_s: float) -> str:
    """Return the card of the weights in `folder`, measured by a recipe."""
    measured = "\n\n".join(f"## {name}\n\n{table(rows)}" for name, rows in results.items())
    machine = f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores"
    begin = _introduction(folder, recipe)
    return f"{begin}\n{measured}\n\n{machine}, {elapsed_s / 60:.0f} minutes.\n"


def _introduction(folder: Path, recipe: Recipe) -> str:
    files = ", ".join(
        f"{path.name} {path.stat().st_size / 1e6:.2f} MB" for path in network_files(folder).values()
    )
    return f"""# The demo model

A miniature of the Wan 2.1 family, trained from nothing by `longtake/training` on a procedural,
captioned world. It exists so that the whole product runs, and can be measured, on a laptop CPU.
It is a demonstration model: it knows one world (a ball, a landscape, a camera) and
{len(vocabulary())} words. `training/README.md` says how to make it again.

Files: {files}; fp16.
Defaults: {DEMO.width}x{DEMO.height} at {DEMO.fps:g} fps, chunks of {DEMO.chunk_frames} latent
frames, {recipe.steps} steps ({recipe.first_steps} for the first chunk), shift {recipe.shift:g},
CFG {DEMO.guidance_scale:g}, {_memory()}.

Measured on held-out seeds by `python -m longtake.training.evaluate`; mean and 95 % bootstrap
interval over clips.
"""


def _memory() -> str:
    """The memory that `from model` is, in words."""
    cache = preset_cache(DEMO)
    window = f"window {cache.limit} latent frames"
    if not isinstance(cache, RecallWindow):
        return window
    fetched = f"{window}, of which {cache.recall_frames} are fetched again by the camera's view"
    return f"{fetched}, where they show more" if cache.only_new_views else fetched


def table(rows: Mapping[str, Estimate]) -> str:
    lines = [
        f"| {name} | {e.mean:.3f} | {e.low:.3f} to {e.high:.3f} | {e.clips} |"
        for name, e in rows.items()
    ]
    return "\n".join(["| | mean | 95 % interval | clips |", "| --- | --- | --- | --- |", *lines])
