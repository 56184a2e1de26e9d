"""A VAE of the host as the sampling loop uses it, to re-encode the first frame of a window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ...model.vae.protocol import StreamingCoder
from ...samplers.conditioning.first_frame import LOOKBACK_FRAMES
from ...samplers.settings import RolloutSettings
from ..models.streaming_vae import StreamingVAE, check_belongs, streaming_vae
from .claim import Claim


@dataclass(frozen=True, eq=False)
class Reservation:
    """A VAE that is claimed with the model before each chunk, and the bytes that it allocates."""

    patcher: Any
    required_bytes: int


class HostCodec:
    """A streaming VAE behind the loop's codec interface."""

    def __init__(self, vae: StreamingVAE) -> None:
        self.vae = vae

    @property
    def device(self) -> torch.device:
        """Where the VAE computes."""
        return self.vae.patcher.load_device

    def open_decoder(self) -> StreamingCoder:
        """A decoder at the start of a video."""
        return self.vae.open_decoder()

    def open_encoder(self) -> StreamingCoder:
        """An encoder at the start of a video."""
        return self.vae.open_encoder()


def host_codec(vae: Any) -> tuple[HostCodec, str]:
    """The VAE and its fingerprint."""
    streaming = streaming_vae(vae)
    return HostCodec(streaming), streaming.weights_name


def reserve_codec(settings: RolloutSettings, claim: Claim, channels: int) -> RolloutSettings:
    """`settings` with the memory of the re-encoding VAE filled in, if they have one.

    The VAE is claimed together with the model. BadInput where its latents have other `channels`.
    """
    first_frame = settings.reencoded_first_frame
    if first_frame is None or not isinstance(first_frame.codec, HostCodec):
        return settings
    vae = first_frame.codec.vae
    check_belongs(vae, claim.model, channels)
    memory = vae.decoder_memory(LOOKBACK_FRAMES + 1, settings.rows, settings.columns)
    sides = (vae.form.spatial_factor * side for side in (settings.rows, settings.columns))
    decoding, encoding = memory.state_bytes + memory.working_bytes, vae.encoder_bytes(1, *sides)
    reservation = Reservation(vae.patcher, max(decoding, encoding))
    claim.reservations.append(reservation)
    claim.co_claimed.add(reservation)
    first_frame = replace(first_frame, room_bytes=reservation.required_bytes)
    return replace(settings, reencoded_first_frame=first_frame)
