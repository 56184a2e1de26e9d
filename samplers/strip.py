"""Where the camera is in a world that is a painted strip, whoever moves the camera.

A camera path moves the camera, or else the words of the prompts. All follows from the settings, so
that nothing has to be kept: a fork, a resume and a replay give the same places.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from .camera.implied import TURN_SHARES, turning_path
from .camera.path import CameraPath
from .camera.track import strip_pans
from .settings import RolloutSettings

LAG = 0.375
"""How far a latent frame's four pictures are, on average, behind the last of them, in its pans."""


def text_spans(
    settings: RolloutSettings, stop: int, leading: int | None = None
) -> list[tuple[int, str]]:
    """The texts in force in turn before latent frame `stop`, each with its first latent frame.

    Frames from `leading` on have those in force while it leads: an edit that comes later does not
    move their camera yet.
    """
    bounds = set[int]()
    for entry in settings.prompts.entries:
        bounds |= {entry.start_frame, entry.active_from, entry.active_until or 0}
    spans: list[tuple[int, str]] = []
    changes = (settings.chunk_start(settings.next_chunk(bound)) for bound in bounds)
    for start in sorted({0, *changes}):
        leads = start if leading is None else min(start, leading)
        text = settings.prompts.at(start, leads).text
        if start < stop and (not spans or spans[-1][1] != text):
            spans.append((start, text))
    return spans


def word_paths(settings: RolloutSettings, frames: Sequence[int]) -> list[CameraPath]:
    """The camera's path at each of latent `frames` by the prompts' words, turns included."""
    spans = text_spans(settings, max(frames) + 1, min(frames))
    return [_word_path(spans, frame) for frame in frames]


def _word_path(spans: Sequence[tuple[int, str]], frame: int) -> CameraPath:
    number = bisect_right(spans, frame, key=lambda span: span[0]) - 1
    start, text = spans[number]
    before = spans[number - 1][1] if number else text
    return turning_path(text, before, frame - start)


def travel(settings: RolloutSettings, frames: Sequence[int]) -> Tensor:
    """How far the camera came from latent frame 0 to each of `frames` (f,), right positive.

    The unit is a latent frame at full pan; the place of a latent frame is its pictures' mean. What
    follows a frame changes no bit of its place: ways are added up in order.
    """
    starts, pans = _pans(settings, max(frames) + 1, min(frames))
    begins, at = starts.clamp(min=1), torch.tensor([*frames])
    ways = (begins.diff() * pans[:-1]).cumsum(0)
    piece = torch.searchsorted(starts, at, right=True) - 1
    before = torch.cat([ways.new_zeros(1), ways])[piece]
    pan = torch.where(at > 0, pans[piece], 0.0)
    return before + (at + 1 - begins[piece]).clamp(min=0) * pan - LAG * pan


def _pans(settings: RolloutSettings, stop: int, leading: int) -> tuple[Tensor, Tensor]:
    """The first latent frames (k,) of the pans before `stop`, and these pans (k,), float64.

    By words they are those in force while latent frame `leading` leads.
    """
    if settings.camera is not None:
        path = settings.camera
        starts = path.starts[: bisect_left(path.starts, stop)]
        return torch.tensor(starts), strip_pans(path, path.steps[: len(starts)])
    spans = text_spans(settings, stop, leading)
    starts, pans = zip(*_word_pans(spans, stop), strict=True)
    return torch.tensor(starts), torch.cat(pans)


def _word_pans(spans: Sequence[tuple[int, str]], stop: int) -> Iterator[tuple[int, Tensor]]:
    for (start, _), end in zip(spans, [*(start for start, _ in spans[1:]), stop], strict=True):
        for frame in range(start, min(end, start + len(TURN_SHARES) + 1)):
            yield frame, _steady_pan(_word_path(spans, frame))


@lru_cache(maxsize=256)
def _steady_pan(path: CameraPath) -> Tensor:
    """The pan (1,) of a path that always moves alike; every chunk asks for all before it."""
    return strip_pans(path, path.steps_of([1]))
