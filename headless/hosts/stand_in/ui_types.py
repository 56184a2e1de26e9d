"""`comfy_api.latest.ui` as far as this pack uses it: results that name files in the host's
folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from .io_types import FolderType


class SavedResult(dict[str, str]):
    """A file below one of the host's folders."""

    def __init__(self, filename: str, subfolder: str, type: FolderType) -> None:
        super().__init__(filename=filename, subfolder=subfolder, type=type.value)


class SavedImages:
    """Pictures, or one animated file."""

    def __init__(self, results: Sequence[SavedResult], is_animated: bool = False) -> None:
        self.results = results
        self.is_animated = is_animated

    def as_dict(self) -> dict[str, object]:
        animated = {"animated": (True,)} if self.is_animated else {}
        return {"images": list(self.results), **animated}


class PreviewText:
    """Text to show in the node."""

    def __init__(self, value: str, **_: Any) -> None:
        self.value = value

    def as_dict(self) -> dict[str, object]:
        return {"text": (self.value,)}


def save_images(images: Tensor, folder: Path, prefix: str, first: int) -> list[str]:
    """Write (n, H, W, 3) in [0, 1] as `PREFIX_00001_.png`, ...; return the file names."""
    names = []
    for number, image in enumerate(images, first):
        pixels = (image.clamp(0, 1) * 255).byte().cpu().numpy()
        names.append(f"{prefix}_{number:05}_.png")
        Image.fromarray(pixels).save(folder / names[-1], compress_level=4)
    return names
