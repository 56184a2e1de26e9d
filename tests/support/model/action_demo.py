"""The demo's transformer with an untrained action embedding: a model that keys can drive."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from longtake.model.preset import DEMO_FOLDER
from longtake.tests.support.tiny_model import randn


def write_action_dit(path: Path) -> Path:
    """Write the demo's weights with random layers for a pan."""
    shipped = DEMO_FOLDER / "dit.safetensors"
    with safe_open(shipped, "pt") as file:
        metadata = file.metadata()
    weights = load_file(shipped)
    dim = weights["time_embedding.0.weight"].shape[0]
    for name, shape in {"0.weight": (dim, 256), "0.bias": (dim,), "2.weight": (dim, dim),
                        "2.bias": (dim,)}.items():  # fmt: skip
        weights[f"action_embedding.{name}"] = 0.05 * randn(*shape)
    save_file(weights, path, metadata)
    return path
