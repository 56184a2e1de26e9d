"""Where the camera is in a world that is a painted strip, whoever moves the camera.

A camera path moves the camera, or else the words of the prompts. All follows from the settings, so
that nothing has to be kept: a fork, a resume and a replay give the same places.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from .camera.implied import TURN_SHARES, turning_path
from .camera.path import CameraPath
from .camera.track import strip_pan
from .settings import RolloutSettings

LAG = 0.375
"""How far a latent frame's four pictures are, on average, behind the last of them, in its pans."""


def text_spans(settings: RolloutSettings, stop: int) -> list[tuple[int, str]]:
    """The texts in force in turn before latent frame `stop`, each with its first latent frame."""
    bounds = set[int]()
    for entry in settings.prompts.entries:
        bounds |= {entry.start_frame, entry.active_from, entry.active_until or 0}
    spans: list[tuple[int, str]] = []
    changes = (settings.chunk_start(settings.next_chunk(bound)) for bound in bounds)
    for start in sorted({0, *changes}):
        text = settings.prompts.at(start).text
        if start < stop and (not spans or spans[-1][1] != text):
            spans.append((start, text))
    return spans


def word_paths(settings: RolloutSettings, frames: Sequence[int]) -> list[CameraPath]:
    """The camera's path at each of latent `frames` by the prompts' words, turns included."""
    spans = text_spans(settings, max(frames) + 1)
    return [_word_path(spans, frame) for frame in frames]


def _word_path(spans: Sequence[tuple[int, str]], frame: int) -> CameraPath:
    number = bisect_right(spans, frame, key=lambda span: span[0]) - 1
    start, text = spans[number]
    before = spans[number - 1][1] if number else text
    return turning_path(text, before, frame - start)


def travel(settings: RolloutSettings, frames: Sequence[int]) -> Tensor:
    """How far the camera came from latent frame 0 to each of `frames` (f,), right positive.

    The unit is a latent frame at full pan; the place of a latent frame is its pictures' mean.
    """
    pieces = [*_pans(settings, max(frames) + 1)]
    ends = [start for start, _ in pieces[1:]]
    places = []
    for frame in frames:
        counts = [max(0, min(end, frame + 1) - max(start, 1))
                  for (start, _), end in zip(pieces, [*ends, frame + 1], strict=True)]  # fmt: skip
        pan = [pan for start, pan in pieces if start <= frame][-1] if frame else 0.0
        way = sum(count * pan for count, (_, pan) in zip(counts, pieces, strict=True))
        places.append(way - LAG * pan)
    return torch.tensor(places, dtype=torch.float64)


def _pans(settings: RolloutSettings, stop: int) -> Iterator[tuple[int, float]]:
    """The pans before latent frame `stop`, each with the first latent frame that has it."""
    if settings.camera is not None:
        yield from (piece for piece in _path_pans(settings.camera) if piece[0] < stop)
        return
    spans = text_spans(settings, stop)
    for (start, _), end in zip(spans, [*(start for start, _ in spans[1:]), stop], strict=True):
        for frame in range(start, min(end, start + len(TURN_SHARES) + 1)):
            yield frame, strip_pan(_word_path(spans, frame), max(frame, 1))


@lru_cache(maxsize=4)
def _path_pans(path: CameraPath) -> tuple[tuple[int, float], ...]:
    """The pan of each entry of a path, with the first latent frame that has it."""
    return tuple((start, strip_pan(path, max(start, 1))) for start in path.starts)
