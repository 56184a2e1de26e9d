"""The picture of an image-to-video model, taken from a conditioning of the host's WanImageToVideo.

Layout as in the host's `WAN21.concat_cond`: a mask, then the latents, beside the noise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.config import DiTConfig
from ...model.vae.latent_format import normalise
from ...samplers.conditioning.reference import Reference
from ..models.channels import MASK_CHANNELS, picture_has_mask

PICTURE_CONDITIONS = ("concat_latent_image", "clip_vision_output")


def reference(config: DiTConfig, *conditionings: Any) -> Reference | None:
    """Return the first picture among the conditionings; None if the model takes no picture."""
    if config.in_channels == config.out_channels:
        return None
    for conditioning in conditionings:
        options = conditioning[0][1] if isinstance(conditioning, list) else {}
        if options.get(PICTURE_CONDITIONS[0]) is not None:
            channels = _beside(options, config.out_channels)
            picked = channels if picture_has_mask(config) else channels[:, MASK_CHANNELS:]
            return Reference(picked, _features(options))
    raise BadInput(
        "This image-to-video model needs a picture; connect the positive conditioning of "
        "WanImageToVideo, with a start_image, to `picture`."
    )


def _beside(options: dict[str, Any], latent_channels: int) -> Tensor:
    """Return mask and latents (f, 4 + c, h, w); the mask is 1 on frames of the picture."""
    image = options[PICTURE_CONDITIONS[0]]
    if image.ndim != 5 or image.shape[0] != 1 or image.shape[1] != latent_channels:
        raise BadInput(
            "The picture was encoded for another model; use WanImageToVideo with the VAE that "
            "belongs to this one."
        )
    latents = normalise(image[0].transpose(0, 1).float()).cpu()
    known_mask = torch.zeros_like(latents[:, :MASK_CHANNELS])
    mask = options.get("concat_mask")
    if mask is not None:
        known = 1 - mask[0].transpose(0, 1).float().cpu()  # (f, 1 or 4, h, w)
        known_mask[: len(known)] = known.expand(-1, MASK_CHANNELS, -1, -1)
    return torch.cat([known_mask, latents], 1)


def _features(options: dict[str, Any]) -> Tensor | None:
    """Return the CLIP vision features (s, 1280) of the last layer but one."""
    output = options.get(PICTURE_CONDITIONS[1])
    return None if output is None else output.penultimate_hidden_states[0].float().cpu()
