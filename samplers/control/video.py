"""A control video: what VACE's module reads for each latent frame, of any length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.vace.module import control_channels
from ...model.vae.latent_format import picture_size
from ..conditioning.known_frame import LazyLatents
from .strength import ControlStrength


class ControlFrames(Protocol):
    """Control frames that are read on demand, so that a video may have any length."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Latent channels, rows and columns of the pictures."""

    @property
    def sources(self) -> list[object]:
        """What a host must claim before a frame is read."""

    def __len__(self) -> int:
        """The number of latent frames."""

    def prepare(self, numbers: Sequence[int]) -> None:
        """Have frames ready that other models make; called before a chunk's models are loaded."""

    def release(self) -> None:
        """Let go of what makes frames; called when the shot's production ends."""

    def digest(self, index: int) -> str:
        """Identifies one frame without reading it."""

    def read(self, index: int) -> Tensor:
        """One frame (channels, h, w): what stays, what may change (both normalised), the mask."""


@dataclass(frozen=True, slots=True)
class ControlVideo:
    """Control frames from latent frame 0 on, reference pictures, and a strength over time.

    References take the place of the first control frames in every pass. Where neither exists the
    strength is 0. `digest` identifies all of it.
    """

    frames: ControlFrames | None = field(default=None, repr=False, compare=False)
    references: tuple[LazyLatents, ...] = field(default=(), repr=False, compare=False)
    strength: ControlStrength = ControlStrength()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if self.frames is None and not self.references:
            raise BadInput("A control video needs control frames or a reference picture.")
        last = len(self.frames) - 1 if self.frames else 0
        facts = [self.strength, last, self._describe(0), self._describe(last)]
        object.__setattr__(self, "digest", _hash(facts))

    @property
    def _parts(self) -> list[ControlFrames | LazyLatents]:
        return [*([] if self.frames is None else [self.frames]), *self.references]

    @property
    def shape(self) -> tuple[int, ...]:
        """Latent channels, rows and columns."""
        return self._parts[0].shape

    @property
    def sources(self) -> list[object]:
        """What a host must claim before anything is read."""
        own = [] if self.frames is None else self.frames.sources
        pictures = (reference.source for reference in self.references)
        return [*dict.fromkeys([*own, *(part for part in pictures if part is not None)])]

    def strength_at(self, frame: int) -> float:
        """The strength at a latent frame; 0 after the last control frame without references."""
        is_over = self.frames is None or frame >= len(self.frames)
        return 0.0 if is_over and not self.references else self.strength.at(frame)

    def with_strength(self, frame: int, factor: float) -> ControlVideo:
        """The same control video, followed with another strength from a latent frame on."""
        return replace(self, strength=self.strength.then(frame, factor))

    def read(self, numbers: Sequence[int]) -> list[Tensor | None]:
        """The control frames (channels, h, w) of the latent frames of a pass; None without one."""
        places = [sorted(numbers).index(number) for number in numbers]
        return [
            _as_control(self.references[place].read())
            if place < len(self.references)
            else self._read(number)
            for place, number in zip(places, numbers, strict=True)
        ]

    def prepare(self, numbers: Sequence[int]) -> None:
        """Have the control frames of latent frames ready, before a chunk's models are loaded."""
        if self.frames is not None:
            count = len(self.frames)
            self.frames.prepare([number for number in numbers if number < count])

    def release(self) -> None:
        """Let go of other shots, since this one makes no more chunks now."""
        if self.frames is not None:
            self.frames.release()

    def _read(self, number: int) -> Tensor | None:
        if self.frames is None or number >= len(self.frames):
            return None
        return self.frames.read(number)

    def digest_of(self, numbers: Iterable[int]) -> str | None:
        """A short hash of what passes over latent frames read; None where nothing acts on them."""
        listed = [*numbers]
        strengths = [self.strength_at(number) for number in listed]
        if not any(strengths):
            return None
        return _hash([strengths, *(self._describe(number) for number in listed)])

    def _describe(self, number: int) -> list[str]:
        frames, references = self.frames, [reference.digest for reference in self.references]
        return [*references, *([frames.digest(number)] if frames and number < len(frames) else [])]

    def check(self, rows: int, columns: int, chunk_frames: int) -> None:
        """Refuse control frames and pictures that do not fit a rollout of these latent sizes."""
        for part in self._parts:
            channels, *size = part.shape
            if size != [rows, columns]:
                name = "control frames" if part is self.frames else "reference pictures"
                raise BadInput(
                    f"The {name} are {picture_size(*part.shape)} and the shot is "
                    f"{picture_size(channels, rows, columns)}; bring them to the shot's width and "
                    "height."
                )
        if len(self.references) > chunk_frames:
            raise BadInput(
                f"{len(self.references)} reference pictures do not fit a chunk of {chunk_frames} "
                "latent frames; use fewer pictures or larger chunks."
            )


def _as_control(latents: Tensor) -> Tensor:
    """A reference picture (c, h, w) as a control frame: it stays, and nothing may change."""
    channels = latents.shape[0]
    rest = control_channels(channels) - channels
    return torch.cat([latents, latents.new_zeros(rest, *latents.shape[1:])])


def _hash(facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
