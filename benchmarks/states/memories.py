"""The memories that are compared: whose weights, and what of the past they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import cast

from ...attention.cache.policy import FullHistory, WindowSink
from ...attention.delta.window import DeltaWindow
from ...model.checkpoint import read
from ...model.config import DiTConfig
from ...model.dit import WanDiT
from ...model.fingerprint import fingerprint
from ...model.preset import DEMO, DEMO_FOLDER
from ...model.recurrent.file import load_recurrent
from ...training.evaluation.kit import Kit, Recipe, load_kit, with_networks

SHORT = 12  # latent frames of the window beside a state
WINDOW, SHORTER = f"window {DEMO.window_frames}", f"window {SHORT}"
STATE, RECURRENT = f"window {SHORT} and a state", "recurrent"


@dataclass(frozen=True, slots=True)
class Memory:
    """How a memory samples, and its `weights`: a folder, a recurrent file, or None for the demo."""

    recipe: Recipe
    weights: Path | None = None


def memories(delta: Path | None, recurrent: Path | None) -> Mapping[str, Memory]:
    """All memories whose weights are there, by name. The recurrent network knows no guidance."""
    rows = {
        WINDOW: Memory(Recipe(cache=WindowSink(DEMO.window_frames))),
        SHORTER: Memory(Recipe(cache=WindowSink(SHORT))),
    }
    if delta is not None:
        rows[STATE] = Memory(Recipe(cache=DeltaWindow(SHORT)), delta)
    if recurrent is not None:
        rows[RECURRENT] = Memory(Recipe(cache=FullHistory(), scale=1.0), recurrent)
    return rows


@lru_cache(maxsize=4)
def kit_of(weights: Path | None) -> Kit:
    """The demo's networks, with other weights in place of its transformer's."""
    kit = load_kit(DEMO_FOLDER)
    if weights is None:
        return kit
    if weights.is_file():
        network, config = load_recurrent(weights)
        # The loop takes either; a kit's type names the one that all other benches need.
        return replace(kit, dit=cast(WanDiT, network), config=cast(DiTConfig, config))
    return with_networks(kit, weights)


def print_of(weights: Path | None) -> str:
    """What tells weights from others; empty for the demo's, which a record names already."""
    if weights is None:
        return ""
    file = weights if weights.is_file() else weights / "dit.safetensors"
    return f" by {fingerprint(read(file)[0])}"
