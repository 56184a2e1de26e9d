"""Texts inside PNG files, as the host's own nodes write them."""

from __future__ import annotations

from collections.abc import Mapping

from PIL.PngImagePlugin import PngInfo


def png_texts(metadata: Mapping[str, str]) -> PngInfo:
    """The chunks `tEXt` with these texts, by key."""
    texts = PngInfo()
    for key, text in metadata.items():
        texts.add_text(key, text)
    return texts
