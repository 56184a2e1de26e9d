"""How long and how large a shot is, and the limits of what a user may set."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..attention.cache.policy import CachePolicy
from ..attention.recall.window import RecallWindow
from ..errors import BadInput
from ..model.config import FRAMES_PER_LATENT, PATCH
from ..model.vae.latent_format import FORMATS, WAN21, frame_count, latent_frame_count
from ..samplers.settings import RolloutSettings
from ..units import count_of

SIZE_STEP = PATCH * WAN21.spatial_factor
MAX_SIDE = 16384
MAX_SEED = 2**64 - 1
MAX_SECONDS = 86_400  # a day
SECONDS, FRAMES = "seconds", "frames"


@dataclass(frozen=True, slots=True)
class Length:
    """A length in whole chunks, and the requested one in frames of video.

    `latent_frames` is None for a shot without an end. Chunks begin whole chunks after
    `chunk_base`, which is the first latent frame not given, or below 0 for a shorter first chunk.
    """

    latent_frames: int | None
    chunk_frames: int
    requested_frames: int
    fps: float
    chunk_base: int = 0

    @property
    def frames(self) -> int | None:
        """Frames of video; None without an end."""
        return None if self.latent_frames is None else frame_count(self.latent_frames)

    @property
    def seconds(self) -> float | None:
        """Seconds of video; None without an end."""
        return None if self.frames is None else self.frames / self.fps

    @property
    def notes(self) -> list[str]:
        """How the length differs from the requested one, a sentence if it does."""
        if self.frames in (None, self.requested_frames):
            return []
        count = count_of(self.requested_frames, "frame")
        requested = f"{self.requested_frames / self.fps:.1f} s, {count}"
        return [f"Requested length: {requested}, rounded up to whole chunks."]

    def in_words(self, chunks: int | None) -> str:
        """The length of a shot that finishes so many chunks; None without an end."""
        if self.frames is None or chunks is None:
            chunk_s = self.chunk_frames * FRAMES_PER_LATENT / self.fps
            return f"Runs until Stop, {chunk_s:.2f} s per chunk"
        frames = count_of(self.frames, "frame")
        return f"{self.seconds:.1f} s, {frames}, {count_of(chunks, 'chunk')}"


def snapped_length(
    length: float, unit: str, fps: float, chunk_frames: int, chunk_base: int = 0
) -> Length:
    """Round `length` seconds or frames up to whole chunks; 0 means no end.

    Chunks are counted from `chunk_base`, as in `Length`.
    """
    seconds = length if unit == SECONDS else length / fps
    if not math.isfinite(length) or not 0 <= seconds <= MAX_SECONDS:
        raise BadInput(
            f"length is {length:,.10g} {unit}; set at most {MAX_SECONDS:,} seconds "
            f"({round(MAX_SECONDS * fps):,} frames), or 0 to run until Stop."
        )
    if length == 0:
        return Length(None, chunk_frames, 0, fps, chunk_base)
    requested = max(1, round(seconds * fps))
    beyond = latent_frame_count(requested) - chunk_base
    snapped = max(0, -(-beyond // chunk_frames)) * chunk_frames - max(0, -beyond)
    return Length(chunk_base + snapped, chunk_frames, requested, fps, chunk_base)


def length_of(settings: RolloutSettings, latent_frames: int | None, fps: float) -> Length:
    """The length of a rollout with these settings and `latent_frames`, None without an end."""
    frames = 0 if latent_frames is None else frame_count(latent_frames)
    size, base = settings.schedule.chunk_frames, settings.chunk_base
    return Length(latent_frames, size, frames, fps, base)


def latent_size(width: int, height: int, channels: int) -> tuple[int, int]:
    """Rows and columns of latents with `channels` channels for `width` x `height` pixels."""
    factor = FORMATS[channels].spatial_factor
    step = PATCH * factor
    check_sides(width, height, step)
    return height // factor, width // factor


def check_sides(width: int, height: int, step: int) -> None:
    """Raise BadInput for a side that is no multiple of `step` pixels, or too small or large."""
    for name, side in (("width", width), ("height", height)):
        if not step <= side <= MAX_SIDE:
            raise BadInput(f"{name} is {side}; set a multiple of {step} from {step} to {MAX_SIDE}.")
        if side % step:
            below = side - side % step
            raise BadInput(
                f"{name} is {side}, not a multiple of {step}; use {below} or {below + step}."
            )


def check_endless(length: Length, cache: CachePolicy) -> None:
    """Refuse (BadInput) a history without a bound in a shot without an end."""
    if length.latent_frames is not None:
        return
    if isinstance(cache, RecallWindow) and cache.recall_frames and cache.archive_frames is None:
        raise BadInput(
            "length is 0 (until Stop), and an archive of all latent frames would fill the main "
            "memory. Set archive_frames in KV Cache Settings, or set a length."
        )
    if cache.limit is None:
        raise BadInput(
            "length is 0 (until Stop), and a KV cache with the full history would fill the memory. "
            "Choose the policy `window + sink`, or set a length."
        )


def latent_frame_at(seconds: float, fps: float) -> float:
    """The fractional latent frame that ends at a time; latent frame k ends at frame 4 k."""
    return (seconds * fps + FRAMES_PER_LATENT - 1) / FRAMES_PER_LATENT if seconds else 0.0
