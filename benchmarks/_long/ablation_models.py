"""The models of `bench forcing`: three of one budget, which differ in the noise levels of their
training alone, each in a folder of its recipe's name.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ...errors import BadInput
from ...model.checkpoint import load_dit, load_text_encoder, read
from ...model.config import config_from_shapes
from ...model.preset import DEMO_FOLDER
from ...training.evaluation.kit import Kit
from ...training.recipes import RECIPES
from ...training.train_dit import DiTTraining, train

BUDGET = DiTTraining(steps=900, only="narrow")  # half an hour of a core each; short histories only


def train_twins(folder: Path) -> None:
    """Train every twin that is not there yet, or not to its end; a stopped one goes on."""
    for name in RECIPES:
        if not is_trained(folder / name):
            train(DEMO_FOLDER / "vae.safetensors", folder / name, replace(BUDGET, recipe=name))


def twins_in(folder: Path) -> dict[str, Path]:
    """The folder of each twin; all of them must be there, trained to their ends."""
    missing = [name for name in RECIPES if not is_trained(folder / name)]
    if missing:
        raise BadInput(
            f"There is no trained {', '.join(missing)} in {folder}; "
            f"`python -m longtake.benchmarks.forcing --train --twins {folder}` makes what is not "
            "there, and goes on where it was stopped."
        )
    return {name: folder / name for name in RECIPES}


def is_trained(twin: Path) -> bool:
    """Whether its weights are there and, where its training left its state, that is the last."""
    if not (twin / "dit.safetensors").exists():
        return False
    state = twin / "dit.pt"
    if not state.exists():  # taken away: weights are all that a rollout needs
        return True
    done: int = torch.load(state, weights_only=True, mmap=True)["step"]
    return done >= BUDGET.steps


def twin_kit(kit: Kit, twin: Path) -> Kit:
    """The demo's networks with a twin's transformer and words."""
    dit = load_dit(twin / "dit.safetensors")
    config = config_from_shapes(read(twin / "dit.safetensors")[0], dit.num_heads)
    text = load_text_encoder(twin / "text.safetensors")
    return replace(kit, dit=dit, config=config, text=text)
