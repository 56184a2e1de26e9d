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
from ...machine.uploads import upload
from ...model.config import FRAMES_PER_LATENT
from ...model.vae.latent_format import LATENT_CHANNELS, picture_size
from .digest import embedding_digest


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture as a model takes it.

    `channels` (f, c, h, w) belong to the first latent frames; later frames repeat the last one.
    `features` (s, 1280) are those of CLIP vision, None for a model without them. `rays`
    (f, 24, 8 h, 8 w) are those of a Fun-Camera, None where a camera path or nothing moves it.
    `voice` (p, AUDIO_FEATURES) are the audio features of each picture of the shot, for a model
    that speaks. `start` (c, h, w) are the latents of the shot's first frame where the picture is
    that frame: the model sees them in place of noisy ones (LiveTalk
    `scripts/inference_example.py`).
    """

    channels: Tensor = field(repr=False, compare=False)
    features: Tensor | None = field(default=None, repr=False, compare=False)
    digest: tuple[str, ...] = field(init=False)
    rays: Tensor | None = field(default=None, repr=False, compare=False)
    voice: Tensor | None = field(default=None, repr=False, compare=False)
    start: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = self.channels, self.features, self.rays, self.voice, self.start
        tensors = [tensor for tensor in parts if tensor is not None]
        if not all(tensor.isfinite().all() for tensor in tensors):
            raise BadInput(
                "The picture's latents, features, rays or voice are not finite; encode them in "
                "float32."
            )
        object.__setattr__(self, "digest", tuple(embedding_digest(tensor) for tensor in tensors))

    def at(self, frames: Sequence[int]) -> Tensor:
        """The extra channels of latent `frames`."""
        return _held(self.channels, frames)

    def beside(self, x: Tensor, frames: Sequence[int]) -> Tensor:
        """Latents x (b, f, c, h, w) of `frames`, with the extra channels behind their own."""
        channels = self.at(frames).to(x)
        return torch.cat([x, channels.expand(len(x), -1, -1, -1, -1)], 2)

    def rays_at(self, frames: Sequence[int]) -> Tensor | None:
        """The rays of latent `frames`; the camera keeps its last place."""
        return None if self.rays is None else _held(self.rays, frames)

    def voice_at(self, frames: Sequence[int]) -> Tensor | None:
        """The audio features of latent `frames` (f, 4 x AUDIO_FEATURES); the last ones go on.

        The first latent frame is one picture, whose sound counts four times.
        """
        if self.voice is None:
            return None
        back = torch.arange(FRAMES_PER_LATENT - 1, -1, -1)
        pictures = FRAMES_PER_LATENT * torch.tensor([*frames]).unsqueeze(1) - back
        pictures = pictures.clamp(0, len(self.voice) - 1)
        return self.voice[pictures].flatten(1)

    def begin(self, first: int, x: Tensor) -> Tensor:
        """Latents x (f, c, h, w) from frame `first` on, with the picture as the shot's first."""
        if self.start is None or first > 0:
            return x
        start = upload(self.start.to(x.dtype), x.device)
        return torch.cat([start.unsqueeze(0), x[1:]])

    def without_features(self) -> Reference:
        """Drop the CLIP features."""
        return replace(self, features=None)

    def check(self, rows: int, columns: int) -> None:
        """Refuse latents of another size than the shot's."""
        size: tuple[int, int] = (self.channels.shape[-2], self.channels.shape[-1])
        if size != (rows, columns):
            raise BadInput(
                f"The picture is {picture_size(LATENT_CHANNELS, *size)} and the shot is "
                f"{picture_size(LATENT_CHANNELS, rows, columns)}; set the shot's width and height "
                "where the picture is encoded."
            )


def _held(values: Tensor, frames: Sequence[int]) -> Tensor:
    """The values of latent `frames`, the last one for all later frames."""
    last = len(values) - 1
    return values[torch.tensor([min(frame, last) for frame in frames])]
