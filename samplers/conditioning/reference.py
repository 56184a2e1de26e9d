"""The picture of an image-to-video model: extra latent channels and CLIP features.

Wan 2.1 I2V takes 20 more channels than it returns. 4 of them mark the picture's frames; 16 hold a
video that begins with the picture and continues in grey (Wan-Video/Wan2.1 `wan/image2video.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.vae.latent_format import LATENT_CHANNELS, picture_size
from .prompts import embedding_digest


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture as a model takes it.

    `channels` (f, c, h, w) belong to the first latent frames; later frames repeat the last one.
    `features` (s, 1280) are those of CLIP vision, None for a model without them.
    """

    channels: Tensor = field(repr=False, compare=False)
    features: Tensor | None = field(default=None, repr=False, compare=False)
    digest: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        tensors = [tensor for tensor in (self.channels, self.features) if tensor is not None]
        if not all(tensor.isfinite().all() for tensor in tensors):
            raise BadInput(
                "the picture's latents or features are not finite; encode it in float32."
            )
        object.__setattr__(self, "digest", tuple(embedding_digest(tensor) for tensor in tensors))

    def at(self, frames: Sequence[int]) -> Tensor:
        """The extra channels of latent `frames`."""
        last = len(self.channels) - 1
        return self.channels[torch.tensor([min(frame, last) for frame in frames])]

    def without_features(self) -> Reference:
        """Drop the CLIP features."""
        return replace(self, features=None)

    def check(self, rows: int, columns: int) -> None:
        """Refuse latents of another size than the shot's."""
        size: tuple[int, int] = (self.channels.shape[-2], self.channels.shape[-1])
        if size != (rows, columns):
            raise BadInput(
                f"the picture is {picture_size(LATENT_CHANNELS, *size)} and the shot is "
                f"{picture_size(LATENT_CHANNELS, rows, columns)}; set the shot's width and height "
                "where the picture is encoded."
            )
