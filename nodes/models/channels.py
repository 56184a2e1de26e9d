"""The numbers of channels that a model may take and return."""

from __future__ import annotations

from ...errors import BadInput
from ...model.config import DiTConfig
from ...model.vae.latent_format import FORMATS

MASK_CHANNELS = 4  # of the picture that an image-to-video model takes


def channels_with_picture(latent: int) -> int:
    """Input channels of an image-to-video model that returns `latent` channels."""
    return 2 * latent + MASK_CHANNELS


def picture_has_mask(config: DiTConfig) -> bool:
    """Whether a model takes a mask beside the picture's latents; Wan 2.1 Fun-Camera does not."""
    return config.in_channels != 2 * config.out_channels


def check_channels(config: DiTConfig) -> None:
    """Refuse (BadInput) a model that is neither text-to-video nor image-to-video of Wan."""
    takes = [config.out_channels, channels_with_picture(config.out_channels)]
    takes += [2 * config.out_channels] if config.camera == "fun" else []
    takes += [2 * config.out_channels + 1] if config.voice else []
    if config.in_channels not in takes or config.out_channels not in FORMATS:
        raise BadInput(
            f"The model takes {config.in_channels} channels and returns {config.out_channels}; use "
            "a Wan text-to-video or image-to-video model, which returns 16, or 48 (Wan 2.2 5B)."
        )
