"""The start picture of a model that takes it as the shot's first latent frame, given as known."""

from __future__ import annotations

from dataclasses import replace

from ...model.preset import Preset
from ...samplers.conditioning.known_frame import KnownFrame
from ...samplers.conditioning.known_frames import KnownFrames, merge
from ...samplers.conditioning.reference import Reference


def begin_with_picture(
    known: KnownFrames, picture: Reference | None, preset: Preset
) -> tuple[KnownFrames, Reference | None]:
    """Make the picture a known frame, where the model finishes it before the first chunk.

    Other models make it together with the frames of that chunk. A known frame that is given at the
    shot's beginning takes its place, so that a clip goes on.
    """
    if not preset.picture_first or picture is None or picture.start is None:
        return known, picture
    seen_beside = replace(picture, start=None)
    if known.among(range(1)):
        return known, seen_beside
    return merge([KnownFrames((KnownFrame(0, picture.start),)), known]), seen_beside
