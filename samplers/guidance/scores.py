"""Three scores: match a palette, match a region of a picture, keep moving.

Each is -1/2 of a squared error in units of its tolerance, counted once per latent pixel. Weight 1
so means the same for every picture size, chunk and video.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import InitVar, dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...errors import BadInput
from ...model.config import FRAMES_PER_LATENT
from ...model.fingerprint import fingerprint
from ...model.vae.tiny import CausalDecoder, Memory
from .score import outside_inference

COLOUR_TOLERANCE = 0.2  # of the RGB range
MOTION_TOLERANCE = 0.1  # standard deviations of a latent

Colour = tuple[float, float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Pictures:
    """A differentiable decoder for scores: a float32 copy of a tiny VAE's decoder."""

    vae: InitVar[CausalDecoder]
    device: InitVar[torch.device]
    weights: str = ""

    def __post_init__(self, vae: CausalDecoder, device: torch.device) -> None:
        with torch.inference_mode(False):
            own = deepcopy(vae).to(device, torch.float32).requires_grad_(False)
            # As a file brings them back: rounding depends on the layout.
            own.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        object.__setattr__(self, "_vae", own)
        known = fingerprint(dict(own.named_parameters())) + " of raw latents" * own.raw
        object.__setattr__(self, "weights", known)

    @property
    def decoder(self) -> CausalDecoder:
        own: CausalDecoder = self._vae  # type: ignore[attr-defined]
        return own

    def __call__(self, latents: Tensor, before: Tensor) -> Tensor:
        """Decode normalised latents (f, c, h, w) to frames (n, 3, H, W), RGB around [0, 1].

        `before` are the finished latent frames before them. With as many as the decoder looks back,
        the frames equal those of a streamed video. Without any, the first latent gives one frame,
        not four. Only one latent frame's activations are kept for the gradient; the others are
        recomputed.
        """
        own = self.decoder
        if latents.shape[1] != own.latent_channels:
            raise BadInput(
                f"A score's VAE has {own.latent_channels} latent channels and the model "
                f"{latents.shape[1]}; connect one that fits the score: taew2_1 or "
                "lighttaew2_1 for 16 channels, taew2_2 for 48."
            )
        device = next(own.parameters()).device
        memory, pieces = self._memory(before.to(device)), []
        for latent in latents.to(device).split(1):
            # Of arguments, torch 2.5 looks up the device's module, and plans are made on `meta`.
            decode = partial(own.decode_groups, latent.unsqueeze(0), memory)
            frames, memory = checkpoint(decode, use_reentrant=False, preserve_rng_state=False)
            pieces.append(frames[0])
        return torch.cat(pieces)[0 if len(before) else FRAMES_PER_LATENT - 1 :]

    @torch.no_grad()
    def _memory(self, before: Tensor) -> Memory:
        """The decoder's memory of finished latents."""
        own = self.decoder
        return own.memory_of(before[None]) if len(before) else own.start(own.decoder)


def check_colours(colours: Sequence[Colour]) -> None:
    """Refuse (BadInput) a palette without colours."""
    if not colours:
        raise BadInput("A palette needs at least one colour, such as #ffcc00.")


def check_box(box: Box) -> None:
    """Refuse (BadInput) a box that is not inside the picture."""
    left, top, width, height = box
    inside = min(left, top) >= 0 and min(width, height) > 0
    if not inside or left + width > 1 or top + height > 1:
        raise BadInput(
            "A region is left, top, width and height in fractions of the picture, from 0 to 1; "
            f"got {box}."
        )


@dataclass(frozen=True, eq=False)
class Palette:
    """Asks every pixel to be near one of some colours, RGB in [0, 1]."""

    colours: tuple[Colour, ...]
    pictures: Pictures

    def __post_init__(self) -> None:
        check_colours(self.colours)

    def __call__(self, latents: Tensor, before: Tensor, first: int) -> Tensor:
        """Squared distance to the nearest colour."""
        pixels = self.pictures(latents, before).movedim(1, -1).unsqueeze(-2)  # (n, H, W, 1, 3)
        distance = (pixels - pixels.new_tensor(self.colours)).square().sum(-1).amin(-1)
        return _fit(distance.mean() / COLOUR_TOLERANCE**2, latents)


@dataclass(frozen=True, eq=False)
class Region:
    """Asks the part `box` of every frame to match a reference picture (3, H, W), RGB in [0, 1].

    `box` is left, top, width and height in fractions of the picture.
    """

    picture: Tensor
    box: Box
    pictures: Pictures

    def __post_init__(self) -> None:
        check_box(self.box)
        object.__setattr__(self, "picture", outside_inference(self.picture))

    def __call__(self, latents: Tensor, before: Tensor, first: int) -> Tensor:
        """Squared difference to the reference inside the box."""
        frames = self.pictures(latents, before)
        target = self.picture.to(frames)[None]
        target = F.interpolate(target, frames.shape[-2:], mode="bilinear", antialias=True)
        rows, columns = self._slices(*frames.shape[-2:])
        difference = (frames - target)[..., rows, columns].square().sum(1).mean()
        share = self.box[2] * self.box[3]
        return share * _fit(difference / COLOUR_TOLERANCE**2, latents)

    def _slices(self, rows: int, columns: int) -> tuple[slice, slice]:
        left, top, width, height = self.box
        top_row, left_column = int(top * rows), int(left * columns)
        return (
            slice(top_row, max(top_row + 1, round((top + height) * rows))),
            slice(left_column, max(left_column + 1, round((left + width) * columns))),
        )


@dataclass(frozen=True, eq=False)
class Motion:
    """Asks latents to change by `min_change` from one latent frame to the next, on average.

    The unit is standard deviations of the latents. Latents that change more get no gradient.
    """

    min_change: float

    def __post_init__(self) -> None:
        if not 0 < self.min_change < 10:
            raise BadInput(f"The least motion is above 0 and below 10; got {self.min_change}.")

    def __call__(self, latents: Tensor, before: Tensor, first: int) -> Tensor:
        """Squared shortfall of the mean absolute change, from the last finished frame on."""
        joined = torch.cat([before[-1:], latents])
        if len(joined) < 2:
            return 0 * latents.sum()
        change = (joined[1:] - joined[:-1]).abs().mean()
        return _fit(F.relu(self.min_change - change).square() / MOTION_TOLERANCE**2, latents)


def _fit(error: Tensor, latents: Tensor) -> Tensor:
    """-1/2 of a mean squared error for each latent pixel of (f, c, h, w)."""
    return -0.5 * error * (latents.numel() // latents.shape[1])
