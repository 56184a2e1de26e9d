"""Whether a VAE seems to belong to the latents it is given, where channels alone do not tell.

Two VAEs of as many channels may mean quite different things by them, and each decodes the other's
latents to noise. But a VAE knows its own: what it makes of a latent, encoded again, is that latent
again. Over 200 latents of the demo the correlation is .994 and more with its own VAE, and .70 and
more at half or twice their contrast; of genuine Wan 2.1 latents, decoded and encoded by the demo's,
it is at most .15. So below `LEAST` a VAE is doubted, if it can see at all: one that does not give a
plain picture back (weights are random) is not judged. It is no proof: of 340 latents of the demo at
48x32 pixels in two steps, one agrees with itself by .28.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .protocol import OpenCoder, StreamingCoder

LEAST = 0.3
SEES = 0.7  # correlation of `probe` with what a VAE gives back; the demo .83, random weights .04
MAX_LATENT_SIDE = 32  # rows and columns that are looked at
PROBE_LATENT_SIDE = 12


def agreement(
    open_encoder: OpenCoder, latent: Tensor, picture: Tensor, factor: int
) -> float | None:
    """Correlation of a first latent (c, h, w) with the latent of its picture (3, H, W) in [0, 1].

    `factor` is pixels per latent row. Only the middle of a large picture is compared. None for a
    latent without a picture: each of its channels is constant.
    """
    if torch.equal(latent.amax((1, 2)), latent.amin((1, 2))):
        return None
    rows, columns = (_middle(side) for side in latent.shape[1:])
    part = latent[:, rows, columns]
    tall, wide = (slice(factor * span.start, factor * span.stop) for span in (rows, columns))
    return correlation(part, _first(open_encoder(), picture[None, :, tall, wide]))


def sees(open_encoder: OpenCoder, open_decoder: OpenCoder, factor: int, like: Tensor) -> bool:
    """Whether a VAE roughly reproduces a plain picture."""
    shown = probe(factor * PROBE_LATENT_SIDE).to(like.device)
    latent = _first(open_encoder(), shown)
    return correlation(shown[0], open_decoder().feed(latent[None].to(like.device))[0]) > SEES


def probe(side: int) -> Tensor:
    """A picture (1, 3, side, side): two soft colours, and a disc of another on them."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    ground = torch.stack([0.3 + 0.5 * y, 0.5 - 0.3 * x, 0.8 - 0.6 * y])
    disc = ((x - 0.4) ** 2 + (y - 0.55) ** 2 < 0.05).float()
    colour = torch.tensor([0.85, 0.25, 0.15]).view(3, 1, 1)
    return (ground * (1 - disc) + colour * disc)[None]


def correlation(one: Tensor, other: Tensor) -> float:
    """Correlation of two (c, h, w), each channel about its mean; 0 if one is constant."""
    a, b = (x.float().cpu() - x.float().cpu().mean((1, 2), keepdim=True) for x in (one, other))
    size = float(a.norm() * b.norm())
    return float((a * b).sum()) / size if size > 0 else 0.0


def _first(encoder: StreamingCoder, picture: Tensor) -> Tensor:
    """The latent (c, h, w) of one picture."""
    latents = encoder.feed(picture)
    if len(latents):
        return latents[0]
    rest = encoder.drain()
    assert rest is not None, "a picture was fed"
    return rest[0]


def _middle(side: int) -> slice:
    length = min(side, MAX_LATENT_SIDE)
    return slice((side - length) // 2, (side - length) // 2 + length)
