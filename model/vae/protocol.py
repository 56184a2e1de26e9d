"""One half of a VAE that works chunk by chunk, whoever wrote its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class StreamingCoder(Protocol):
    """A streaming decoder or encoder.

    A decoder turns normalised latents (f, c, h, w) into frames (n, 3, H, W), RGB in [0, 1]. An
    encoder does the reverse.
    """

    def feed(self, x: Tensor, /) -> Tensor:
        """Code the next latents or frames and return what is complete."""

    def drain(self) -> Tensor | None:
        """End the video and return what was held back, if anything was."""

    def reset(self) -> None:
        """Forget the past: the next input is the first of a video."""

    @property
    def state_bytes(self) -> int:
        """Bytes kept between two calls."""

    @property
    def overlap_frames(self) -> int:
        """Latent frames to code again before the output in the middle of a video is exact."""


OpenCoder = Callable[[], StreamingCoder]
"""Opens a coder at the start of a video."""


class StreamingCodec(Protocol):
    """A VAE that opens streaming decoders and encoders."""

    @property
    def device(self) -> torch.device:
        """Where the VAE computes."""

    def open_decoder(self) -> StreamingCoder:
        """Open a decoder at the start of a video."""

    def open_encoder(self) -> StreamingCoder:
        """Open an encoder at the start of a video."""
