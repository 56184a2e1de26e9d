"""The demo's files with a camera and without one, whichever of the two is shipped.

Its student has the same weights there as its teacher.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from longtake.benchmarks._shared.demo import write_plain_dit
from longtake.model.camera.columns import COLUMNS_PER_FRAME, column_turns
from longtake.model.checkpoint import read
from longtake.model.preset import DEMO_FOLDER
from longtake.tests.support.model.action_demo import write_action_dit

HEAD_DIM = 48
FILE, STUDENT = "dit.safetensors", "fast/dit.safetensors"


def demo_with_camera(folder: Path) -> Path:
    """Copy the demo into a new `folder`, with random layers for a pan and columns in the world."""
    shutil.copytree(DEMO_FOLDER, folder)
    path = write_action_dit(folder / FILE)
    columns = {"world_columns": torch.tensor([COLUMNS_PER_FRAME]),
               "world_turns": column_turns(HEAD_DIM)}  # fmt: skip
    save_file({**load_file(path), **columns}, path, read(path)[1])
    shutil.copy(path, folder / STUDENT)
    return folder


def demo_without_camera(folder: Path) -> Path:
    """Copy the demo into a new `folder`, without the camera's tensors if it has any."""
    shutil.copytree(DEMO_FOLDER, folder)
    shutil.copy(write_plain_dit(folder / FILE), folder / STUDENT)
    return folder
