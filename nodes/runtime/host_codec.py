"""A VAE of the host's for the sampling loop itself: to encode a window's beginning anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ...model.fingerprint import fingerprint
from ...model.vae.protocol import StreamingCoder
from ...samplers.conditioning.first_frame import LOOKBACK_FRAMES
from ...samplers.settings import RolloutSettings
from ..models.streaming_vae import StreamingVAE, streaming_vae
from .claim import Claim


@dataclass(frozen=True, eq=False)
class Room:
    """What the host is asked for besides, before each chunk: a VAE, and what it allocates."""

    patcher: Any
    room_bytes: int


class HostCodec:
    """A streaming VAE as the sampling loop uses it."""

    def __init__(self, vae: StreamingVAE) -> None:
        self.vae = vae

    @property
    def device(self) -> torch.device:
        """Where the host lets it compute."""
        return self.vae.patcher.load_device

    def open_decoder(self) -> StreamingCoder:
        """A decoder at the start of a video."""
        return self.vae.open_decoder()

    def open_encoder(self) -> StreamingCoder:
        """An encoder at the start of a video."""
        return self.vae.open_encoder()


def host_codec(vae: Any) -> tuple[HostCodec, str]:
    """The VAE, and what it is known by."""
    streaming = streaming_vae(vae)
    return HostCodec(streaming), fingerprint(dict(streaming.tree.named_parameters()))


def with_room(settings: RolloutSettings, claim: Claim, channels: int) -> RolloutSettings:
    """The same, where a VAE takes part: it is claimed with the model, and what it takes is known.

    A VAE of other latents than the model's is refused.
    """
    again = settings.reencoded_first_frame
    if again is None or not isinstance(again.codec, HostCodec):
        return settings
    vae = again.codec.vae
    vae.check_fits(channels)
    memory = vae.decoder_memory(LOOKBACK_FRAMES + 1, settings.rows, settings.columns)
    sides = (vae.form.spatial_factor * side for side in (settings.rows, settings.columns))
    decoding, encoding = memory.state_bytes + memory.working_bytes, vae.encoder_bytes(1, *sides)
    room = Room(vae.patcher, max(decoding, encoding))
    claim.lasting.append(room)
    claim.beside.add(room)
    return replace(settings, reencoded_first_frame=replace(again, room_bytes=room.room_bytes))
