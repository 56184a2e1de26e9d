"""What pictures under nodes have in common: colours, the size of text, and their file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..errors import StorageError
from ..machine.temporary_files import remove_leftovers, replacing

Colour = tuple[int, int, int]

BACKGROUND: Colour = (24, 24, 26)
INK: Colour = (230, 230, 230)
TEXT_SIZE = 13


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a picture whole or not at all; StorageError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        with replacing(path) as temporary:
            picture.save(temporary, format="PNG")
    except OSError as error:
        raise StorageError(
            f"The picture {path} cannot be written ({error.strerror or error}); free some space or "
            "choose another folder."
        ) from error
