"""The picture of an image-to-video model, as the host's WanImageToVideo hangs it on a conditioning.

The same as the host's own `WAN21.concat_cond`: a mask, then the latents, beside the noise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.config import DiTConfig
from ...model.vae.latent_format import normalise
from ...samplers.conditioning.reference import Reference
from ..models.channels import MASK_CHANNELS

PICTURE_CONDITIONS = ("concat_latent_image", "clip_vision_output")


def reference(config: DiTConfig, *conditionings: Any) -> Reference | None:
    """The picture that the first of the conditionings with one carries, for a model that takes one.

    Others are None, or prompts without a picture.
    """
    if config.in_channels == config.out_channels:
        return None
    for conditioning in conditionings:
        options = conditioning[0][1] if isinstance(conditioning, list) else {}
        if options.get(PICTURE_CONDITIONS[0]) is not None:
            return Reference(_beside(options, config.out_channels), _features(options))
    raise BadInput(
        "This is an image-to-video model and it has no picture; connect the positive conditioning "
        "of WanImageToVideo, with a start_image, to `picture`."
    )


def _beside(options: dict[str, Any], latent_channels: int) -> Tensor:
    """Mask and latents (f, 4 + c, h, w); 1 in the mask says that a frame is the picture's."""
    image = options[PICTURE_CONDITIONS[0]]
    if image.ndim != 5 or image.shape[0] != 1 or image.shape[1] != latent_channels:
        raise BadInput(
            "The picture was encoded for another model; use WanImageToVideo with the VAE that "
            "belongs to this one."
        )
    latents = normalise(image[0].transpose(0, 1).float()).cpu()
    given = torch.zeros_like(latents[:, :MASK_CHANNELS])
    mask = options.get("concat_mask")
    if mask is not None:
        known = 1 - mask[0].transpose(0, 1).float().cpu()  # (f, 1 or 4, h, w)
        given[: len(known)] = known.expand(-1, MASK_CHANNELS, -1, -1)
    return torch.cat([given, latents], 1)


def _features(options: dict[str, Any]) -> Tensor | None:
    """CLIP vision's features (s, 1280), of the layer before the last."""
    seen = options.get(PICTURE_CONDITIONS[1])
    return None if seen is None else seen.penultimate_hidden_states[0].float().cpu()
