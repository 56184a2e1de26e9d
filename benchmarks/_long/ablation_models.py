"""The models of `bench forcing`, called twins: one budget, different noise levels in training.

Each lies in a folder named after its recipe.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ...errors import BadInput
from ...model.preset import DEMO_FOLDER
from ...training.recipes import RECIPES
from ...training.train_dit import DiTTraining, train

BUDGET = DiTTraining(steps=900, only="narrow")  # half an hour of a core each; short histories only


def train_twins(folder: Path) -> None:
    """Train every missing or unfinished twin; a stopped training resumes."""
    for name in RECIPES:
        train_twin(folder, name)


def train_twin(folder: Path, name: str) -> None:
    """Train one twin, unless it is finished; a stopped training resumes."""
    if not is_trained(folder / name):
        train(DEMO_FOLDER / "vae.safetensors", folder / name, replace(BUDGET, recipe=name))


def twins_in(folder: Path) -> dict[str, Path]:
    """Return the folder of each twin; raise BadInput if one is missing or unfinished."""
    missing = [name for name in RECIPES if not is_trained(folder / name)]
    if missing:
        raise BadInput(
            f"There is no trained {', '.join(missing)} in {folder}; "
            f"`python -m longtake.benchmarks.forcing --train --twins {folder}` trains the missing "
            "models, and resumes a stopped training."
        )
    return {name: folder / name for name in RECIPES}


def is_trained(twin: Path) -> bool:
    """Return whether the twin's weights exist and its training state, if kept, is the last one."""
    if not (twin / "dit.safetensors").exists():
        return False
    state = twin / "dit.pt"
    if not state.exists():  # deleted: a rollout needs the weights only
        return True
    done: int = torch.load(state, weights_only=True, mmap=True)["step"]
    return done >= BUDGET.steps
