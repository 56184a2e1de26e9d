"""Control frames of pictures and masks, encoded by a streaming VAE as a shot reaches them.

What stays (outside the mask) and what may change (inside) are two videos with an encoder each; the
rest of either is grey. The mask of a latent frame is that of the third of its four pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from ...model.config import FRAMES_PER_LATENT
from ...model.vace.module import MASK_CHANNELS, PIXELS
from ..frames.pictures import PictureFrames
from ..known.known_video import ReadablePictures, VideoLatents
from ..known.rollout_pictures import RolloutPictures
from ..models.streaming_vae import StreamingVAE

GREY = 0.5
INSIDE = 0.5  # a mask's pixel counts as inside above this


class PictureReader(Protocol):
    """Reads pictures in order."""

    def read(self, count: int) -> Tensor | None:
        """The next pictures (n, 3, H, W), at most `count`; None after the last."""

    def close(self) -> None:
        """Close what reading opened."""


@dataclass(frozen=True, slots=True)
class GreyPictures:
    """Grey pictures of one size."""

    width: int
    height: int
    frame_total: int

    @property
    def digest(self) -> str:
        """All grey pictures of one size are equal."""
        return f"grey {self.width}x{self.height}"

    def open_reader(self, first: int) -> _GreyReader:
        """Read from picture number `first` on."""
        return _GreyReader(self, first)


class _GreyReader:
    def __init__(self, pictures: GreyPictures, first: int) -> None:
        self._pictures, self._number = pictures, first

    def read(self, count: int) -> Tensor | None:
        """The next grey pictures."""
        pictures = self._pictures
        number = min(count, pictures.frame_total - self._number)
        self._number += max(0, number)
        if number <= 0:
            return None
        return torch.full((number, 3, pictures.height, pictures.width), GREY)

    def close(self) -> None:
        """Do nothing: no file is open."""


@dataclass(frozen=True, slots=True)
class MaskedPictures:
    """The part of pictures inside a mask, or outside; the rest is grey. One mask serves all."""

    pictures: ReadablePictures
    masks: ReadablePictures
    inside: bool

    @property
    def width(self) -> int:
        """Pixels across a picture."""
        return self.pictures.width

    @property
    def height(self) -> int:
        """Pixels down a picture."""
        return self.pictures.height

    @property
    def frame_total(self) -> int:
        """The number of pictures."""
        return self.pictures.frame_total

    @property
    def digest(self) -> str:
        """Identifies pictures, masks and the part."""
        return f"{self.pictures.digest} {self.masks.digest} {self.inside}"

    def open_reader(self, first: int) -> _MaskedReader:
        """Read from picture number `first` on."""
        still = self.masks.frame_total == 1
        masks = self.masks.open_reader(0 if still else first)
        return _MaskedReader(self.pictures.open_reader(first), masks, still, self.inside)


class _MaskedReader:
    def __init__(
        self, pictures: PictureReader, masks: PictureReader, still: bool, inside: bool
    ) -> None:
        self._pictures, self._masks, self._inside = pictures, masks, inside
        self._still = masks.read(1) if still else None

    def read(self, count: int) -> Tensor | None:
        """The next pictures, with grey where the part does not lie."""
        pictures = self._pictures.read(count)
        if pictures is None:
            return None
        masks = self._masks.read(len(pictures)) if self._still is None else self._still
        assert masks is not None
        part = is_inside(masks)
        return torch.where(part if self._inside else ~part, pictures, GREY)

    def close(self) -> None:
        """Close pictures and masks."""
        self._pictures.close()
        self._masks.close()


def is_inside(masks: Tensor) -> Tensor:
    """Whether each pixel of grey pictures (n, 3, H, W) is inside the mask (n, 1, H, W)."""
    return masks.mean(1, keepdim=True) > INSIDE


def fold(mask: Tensor) -> Tensor:
    """A mask (1, H, W) as one channel for each pixel of a latent cell (64, h, w)."""
    channels: Tensor = rearrange(mask.float(), "1 (h a) (w b) -> (a b) h w", a=PIXELS, b=PIXELS)
    return channels


class ControlPictures:
    """Control frames of pictures, with masks or without; without, all of a picture may change."""

    def __init__(
        self, pictures: ReadablePictures, masks: ReadablePictures | None, vae: StreamingVAE
    ) -> None:
        self._masks = masks
        self._names = _names(pictures, masks)
        self._generated = [p for p in (pictures, masks) if isinstance(p, RolloutPictures)]
        self._looks_back = vae.open_encoder().overlap_frames + 2
        if masks is None:
            steady = vae.open_encoder().overlap_frames + 1
            self._steady = steady + steady % 2  # some encoders make latents in pairs
            total = 1 + FRAMES_PER_LATENT * (self._steady + 4)
            grey = GreyPictures(pictures.width, pictures.height, total)
            self._outside, self._inside = VideoLatents(grey, vae), VideoLatents(pictures, vae)
        else:
            self._steady = 0
            self._outside, self._inside = (
                VideoLatents(MaskedPictures(pictures, masks, inside), vae)
                for inside in (False, True)
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Latent channels, rows and columns."""
        return self._inside.shape

    @property
    def sources(self) -> list[object]:
        """The two videos, each of which needs the VAE."""
        return [self._outside, self._inside]

    def __len__(self) -> int:
        return len(self._inside)

    def prepare(self, numbers: Sequence[int]) -> None:
        """Have the pictures behind these latent frames made, where another shot makes them."""
        if not numbers:
            return
        first = max(0, min(numbers) - self._looks_back) * FRAMES_PER_LATENT
        stop = (max(numbers) + 2) * FRAMES_PER_LATENT  # some encoders make latents in pairs
        for pictures in self._generated:
            pictures.prepare(min(first, pictures.frame_total - 1), stop)

    def release(self) -> None:
        """Let go of the shots that make the pictures."""
        for pictures in self._generated:
            pictures.release()

    def digest(self, index: int) -> str:
        """A hash of the VAE and of the pictures and masks that the frame depends on."""
        text = f"{self._names[index]} {self._inside.encoder_name}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def read(self, index: int) -> Tensor:
        """What stays, what may change, and the mask (channels, h, w) of a latent frame."""
        outside = self._outside.read(self._steady_index(index))
        return torch.cat([outside, self._inside.read(index), self._mask(index).to(outside)])

    def _steady_index(self, index: int) -> int:
        """A latent frame with the same values: grey pictures repeat once all they see is grey."""
        if self._masks is not None or index < self._steady:
            return index
        return self._steady + (index - self._steady) % 2

    def _mask(self, index: int) -> Tensor:
        """The mask's channels (64, h, w) at a latent frame."""
        if self._masks is None:
            return torch.ones(MASK_CHANNELS, *self.shape[1:])
        number = max(0, FRAMES_PER_LATENT * index - 1)
        reader = self._masks.open_reader(min(number, self._masks.frame_total - 1))
        try:
            masks = reader.read(1)
        finally:
            reader.close()
        assert masks is not None
        return fold(is_inside(masks)[0])


def _names(pictures: ReadablePictures, masks: ReadablePictures | None) -> Sequence[str]:
    """A name for each latent frame that tells all pictures and masks up to there."""
    latents = 1 + -(-(pictures.frame_total - 1) // FRAMES_PER_LATENT)
    parts = [pictures] if masks is None else [pictures, masks]
    return [" ".join(names) for names in zip(*(_of_one(p, latents) for p in parts), strict=True)]


def _of_one(pictures: ReadablePictures, latents: int) -> Sequence[str]:
    """The names of one source: running hashes of an IMAGE; a file counts as a whole."""
    if isinstance(pictures, RolloutPictures):
        return pictures.names(latents)
    if not isinstance(pictures, PictureFrames):
        name = pictures.digest
        return [f"{name} {index}" for index in range(latents)]
    running, names, start = hashlib.sha256(), [], 0
    for index in range(latents):
        stop = min(1 + FRAMES_PER_LATENT * index, pictures.frame_total)
        if start < stop:
            running.update(pictures.pictures(start, stop).contiguous().numpy().tobytes())
        start = max(start, stop)
        names.append(f"{pictures.width}x{pictures.height} {running.hexdigest()}")
    return names
