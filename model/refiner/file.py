"""The refiner's weights: a safetensors file whose tensors tell its sizes."""

from __future__ import annotations

from pathlib import Path

from ...errors import BadInput
from ..checkpoint import load_exactly, read
from .network import SUBPIXELS, Refiner, RefinerConfig


def load_refiner(path: Path) -> Refiner:
    """Load the demo's second stage in float32."""
    state, _ = read(path)
    try:
        width = len(state["layers.0.weight"])
        blocks = sum(name.endswith(".join.weight") for name in state)
        fine = len(state[f"layers.{2 + blocks}.weight"]) // SUBPIXELS
    except KeyError as error:
        raise BadInput(
            f"{path} is not the demo's second stage (it has no {error.args[0]}); "
            "choose a file of longtake.training.refiner.train."
        ) from error
    refiner = Refiner(RefinerConfig(width, fine, blocks))
    load_exactly(refiner, state, path)
    return refiner
