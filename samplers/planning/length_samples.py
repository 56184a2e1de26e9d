"""Shorter shots that tell what a long one takes.

The memory of a pass grows evenly with the latent frames in it, once there are more than any setting
counts and more tokens than any loop takes at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...attention.rope import TOKENS_AT_ONCE
from ...model.config import PATCH
from ..conditioning.known_frame import KnownFrame
from ..conditioning.known_frames import KnownFrames
from ..conditioning.prompts import PromptTimeline
from ..guidance import AgeRange
from ..settings import RolloutSettings
from .example_prompts import prompts_together

MIN_FRAMES = 128
"""Latent frames of the shorter shots, at least."""
STRIDE_CHUNKS = 16
"""Chunks by which they differ; even, so that the middle of a mirrored schedule moves evenly."""


def shorter_shots(settings: RolloutSettings) -> tuple[RolloutSettings, RolloutSettings] | None:
    """Two shots whose passes grow into those of the whole one; None where it is short enough.

    A window of finite length behind finitely many active frames does not grow.
    """
    length, origin, chunk = settings.length, settings.origin, settings.schedule.chunk_frames
    if length is None or not _grows(settings):
        return None
    stride = STRIDE_CHUNKS * chunk
    least = origin + _frames_that_count(settings)
    shortest = least + (length - least) % stride
    if shortest + 2 * stride >= length:
        return None
    return _shortened(settings, shortest), _shortened(settings, shortest + stride)


def extrapolate(samples: Sequence[tuple[int, int]], length: int) -> int:
    """The bytes at `length` on the line through two samples (length, bytes)."""
    (shorter, fewer), (longer, more) = samples
    strides, rest = divmod(length - shorter, longer - shorter)
    assert not rest
    return fewer + strides * (more - fewer)


def _grows(settings: RolloutSettings) -> bool:
    return settings.cache.limit is None or _all_at_once(settings)


def _all_at_once(settings: RolloutSettings) -> bool:
    """Whether the active frames are those of the whole shot, however long it is."""
    length, origin = settings.length, settings.origin
    if length is None:
        return False
    longer = settings.schedule.active_frames(length + 1, origin)
    return longer > settings.schedule.active_frames(length, origin)


def _frames_that_count(settings: RolloutSettings) -> int:
    """Latent frames after which no setting changes what a longer shot does."""
    tokens = settings.rows * settings.columns // PATCH**2
    ages = [
        branch.view.frames.oldest
        for branch in settings.guidance.all_branches
        if isinstance(branch.view.frames, AgeRange)
    ]
    chunk, window = settings.schedule.chunk_frames, settings.cache.limit or 0
    active = 0 if _all_at_once(settings) else settings.active_frames
    prompts = settings.prompts_at_once * chunk
    lookahead = settings.known_frames.max_lookahead
    loops = 2 * -(-TOKENS_AT_ONCE // tokens)
    longest = max([MIN_FRAMES, loops, window, prompts, *ages])
    return longest + active + lookahead + settings.cache.sink_frames + 2 * chunk


def _shortened(settings: RolloutSettings, length: int) -> RolloutSettings:
    """A shot of `length` with as many known frames and prompts at once as the whole one has."""
    return replace(
        settings,
        length=length,
        known_frames=_known_until(settings.known_frames, length),
        prompts=_prompts(settings),
    )


def _prompts(settings: RolloutSettings) -> PromptTimeline:
    """The prompts, or as many as the whole shot has together where all its frames are in work."""
    if not _all_at_once(settings):
        return settings.prompts
    return prompts_together(settings, settings.origin % settings.schedule.chunk_frames)


def _known_until(known: KnownFrames, length: int) -> KnownFrames:
    """The leading known frames, and before `length` as many more as are ever seen at once."""
    if known.stop <= length:
        return known
    ahead, latents = known.max_lookahead, known.frames[-1].latents
    later = (KnownFrame(length - 1 - i, latents, 0.0, ahead) for i in range(ahead))
    return KnownFrames((*known.frames[: known.leading], *later))
