"""How long and how large a shot is, and the limits of what a user may set."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..attention.cache.policy import CachePolicy
from ..errors import BadInput
from ..model.config import PATCH
from ..model.vae.latent_format import (
    FORMATS,
    FRAMES_PER_LATENT,
    WAN21,
    frame_count,
    latent_frame_count,
)
from ..samplers.settings import RolloutSettings

SIZE_STEP = PATCH * WAN21.spatial_factor
MAX_SIDE = 16384
MAX_SEED = 2**64 - 1
MAX_SECONDS = 86_400  # a day
SECONDS, FRAMES = "seconds", "frames"


@dataclass(frozen=True, slots=True)
class Length:
    """A length in latent frames, snapped up to whole chunks, and what was asked for in frames.

    Without an end `latent_frames` is None. The first `origin` latent frames are given; chunks are
    counted from there.
    """

    latent_frames: int | None
    chunk_frames: int
    asked_frames: int
    fps: float
    origin: int = 0

    @property
    def frames(self) -> int | None:
        """Frames of video."""
        return None if self.latent_frames is None else frame_count(self.latent_frames)

    @property
    def seconds(self) -> float | None:
        """Seconds of video."""
        return None if self.frames is None else self.frames / self.fps

    @property
    def chunks(self) -> int | None:
        """How many chunks that is."""
        if self.latent_frames is None:
            return None
        given = min(self.origin, self.latent_frames)
        return sum(-(-part // self.chunk_frames) for part in (given, self.latent_frames - given))

    def __str__(self) -> str:
        if self.frames is None:
            chunk_s = self.chunk_frames * FRAMES_PER_LATENT / self.fps
            return f"Frames until Stop, in chunks of {chunk_s:.2f} s"
        made = f"{self.frames} frames ({self.seconds:.1f} s) in {self.chunks} chunks"
        if self.frames == self.asked_frames:
            return made
        asked = f"{self.asked_frames} asked for ({self.asked_frames / self.fps:.1f} s)"
        return f"{made}: the {asked}, up to a whole chunk"


def snapped_length(
    length: float, unit: str, fps: float, chunk_frames: int, origin: int = 0
) -> Length:
    """`length` seconds or frames as whole chunks, never shorter than asked; 0 has no end.

    The first `origin` latent frames are given.
    """
    seconds = length if unit == SECONDS else length / fps
    if not math.isfinite(length) or not 0 <= seconds <= MAX_SECONDS:
        raise BadInput(
            f"length is {length:g} {unit}; give at most {MAX_SECONDS} seconds "
            f"({round(MAX_SECONDS * fps)} frames), or 0 to go on until Stop."
        )
    if length == 0:
        return Length(None, chunk_frames, 0, fps, origin)
    asked = max(1, round(seconds * fps))
    beyond = latent_frame_count(asked) - origin
    snapped = max(0, -(-beyond // chunk_frames)) * chunk_frames - max(0, -beyond)
    return Length(origin + snapped, chunk_frames, asked, fps, origin)


def length_of(settings: RolloutSettings, latent_frames: int | None, fps: float) -> Length:
    """The length of a rollout of these settings that has so many latent frames."""
    frames = 0 if latent_frames is None else frame_count(latent_frames)
    return Length(latent_frames, settings.schedule.chunk_frames, frames, fps, settings.origin)


def latent_size(width: int, height: int, channels: int) -> tuple[int, int]:
    """Rows and columns of latents of so many channels for `width` x `height` pixels."""
    factor = FORMATS[channels].spatial_factor
    step = PATCH * factor
    for name, side in (("width", width), ("height", height)):
        if not step <= side <= MAX_SIDE:
            raise BadInput(
                f"{name} is {side}; give a multiple of {step} from {step} to {MAX_SIDE}."
            )
        if side % step:
            below = side - side % step
            raise BadInput(
                f"{name} is {side}, not a multiple of {step}; use {below} or {below + step}."
            )
    return height // factor, width // factor


def check_endless(length: Length, cache: CachePolicy) -> None:
    """Refuse a history that grows for ever."""
    if length.latent_frames is None and cache.limit is None:
        raise BadInput(
            "length is 0 (until Stop) and the KV cache keeps the full history, which would fill "
            "the memory; choose `window + sink`, or give a length."
        )


def latent_frame_at(seconds: float, fps: float) -> float:
    """The latent frame, and fraction of one, that ends at a time; latent frame k ends at 4 k."""
    return (seconds * fps + FRAMES_PER_LATENT - 1) / FRAMES_PER_LATENT if seconds else 0.0
