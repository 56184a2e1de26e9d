"""Which latent channels a model may take and give."""

from __future__ import annotations

from ...errors import BadInput
from ...model.config import DiTConfig
from ...model.vae.latent_format import FORMATS

MASK_CHANNELS = 4  # of the picture that an image-to-video model takes


def channels_with_picture(latent: int) -> int:
    """How many an image-to-video model takes that gives `latent` ones."""
    return 2 * latent + MASK_CHANNELS


def check_channels(config: DiTConfig) -> None:
    """Only models to latents of a known kind can be rolled out, from those or from I2V's."""
    takes = (config.out_channels, channels_with_picture(config.out_channels))
    if config.in_channels not in takes or config.out_channels not in FORMATS:
        raise BadInput(
            f"The model takes {config.in_channels} channels and gives {config.out_channels}; use a "
            "Wan text-to-video or image-to-video model, which gives 16, or 48 (Wan 2.2 5B)."
        )
