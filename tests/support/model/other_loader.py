"""A MODEL as the host's own loader makes it, without anything of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_by_host(path: Path) -> Any:
    """The MODEL of a diffusion model's file, as from Load Diffusion Model."""
    import comfy.sd

    return comfy.sd.load_diffusion_model(str(path))
