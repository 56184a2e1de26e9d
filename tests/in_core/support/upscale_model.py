"""A small random upscale model in the form of the file that the example `cascade` names."""

from __future__ import annotations

from pathlib import Path

import torch

from longtake.samplers.noise import addressed_noise

NAME = "realesr-general-x4v3.pth"
WIDTH, SCALE, RGB = 8, 4, 3


def write_upscale_model(folder: Path) -> Path:
    """Write an SRVGGNetCompact of three convolutions below `folder`; returns the file."""
    convolutions = {0: (WIDTH, RGB), 2: (WIDTH, WIDTH), 4: (RGB * SCALE**2, WIDTH)}
    shapes: dict[str, tuple[int, ...]] = {f"body.{i}.weight": (WIDTH,) for i in (1, 3)}
    for number, (width, before) in convolutions.items():
        shapes |= {f"body.{number}.weight": (width, before, 3, 3), f"body.{number}.bias": (width,)}
    state = {name: 0.05 * addressed_noise(5, 0, 0, name, shape) for name, shape in shapes.items()}
    file = folder / "models" / "upscale_models" / NAME
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, file)
    return file
