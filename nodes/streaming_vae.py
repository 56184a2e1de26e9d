"""VAEs that can stream: the demo's, and the host's Wan 2.1 VAE (LightVAE is a narrower one)."""

from __future__ import annotations

from typing import Any

from ..errors import BadInput
from ..model.vae.decoder_memory import DecoderMemory, tiny_decoder_memory
from ..model.vae.latent_format import LATENT_CHANNELS
from ..model.vae.streaming import StreamingDecoder, StreamingEncoder
from ..model.vae.wan_state import decoder_state_values
from ..model.vae.wan_streaming import WanStreamingDecoder, WanStreamingEncoder
from .demo_objects import DemoVAE

WIDEST = 96  # channels at full resolution of the official Wan 2.1 VAE


class StreamingVAE:
    """The host's VAE object around a demo VAE."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.patcher, self.device, self.dtype = vae.patcher, vae.device, vae.vae_dtype

    def open_decoder(self) -> StreamingDecoder | WanStreamingDecoder:
        """A decoder at the start of a video."""
        return StreamingDecoder(self.vae.first_stage_model)

    def open_encoder(self) -> StreamingEncoder | WanStreamingEncoder:
        """An encoder at the start of a video."""
        return StreamingEncoder(self.vae.first_stage_model)

    def decoder_memory(self, frames: int, rows: int, columns: int) -> DecoderMemory:
        """What decoding chunks of so many latent frames of this size takes."""
        return tiny_decoder_memory(self.vae.first_stage_model, frames, rows, columns)


class WanVAE(StreamingVAE):
    """The host's VAE object around a Wan 2.1 VAE."""

    def open_decoder(self) -> WanStreamingDecoder:
        """A decoder at the start of a video."""
        return WanStreamingDecoder(self.vae.first_stage_model, self.dtype)

    def open_encoder(self) -> WanStreamingEncoder:
        """An encoder at the start of a video."""
        return WanStreamingEncoder(self.vae.first_stage_model, self.dtype)

    def decoder_memory(self, frames: int, rows: int, columns: int) -> DecoderMemory:
        """State by the plan of `wan_state`, of which a narrower VAE keeps less in proportion; on
        top the host's own estimate for one decode.
        """
        share = self.vae.first_stage_model.decoder.head[0].gamma.shape[0] / WIDEST
        state = decoder_state_values() * share * rows * columns * self.dtype.itemsize
        shape = (1, LATENT_CHANNELS, frames, rows, columns)
        return DecoderMemory(int(state), int(self.vae.memory_used_decode(shape, self.dtype)))


def streaming_vae(vae: Any) -> StreamingVAE:
    """The VAE, if it can stream and speaks the model's latents."""
    if isinstance(vae, DemoVAE):
        return StreamingVAE(vae)
    tree = getattr(vae, "first_stage_model", vae)
    channels = getattr(vae, "latent_channels", 0)
    parts = (getattr(tree, "decoder", None), getattr(tree, "conv2", None))
    if None in parts or not hasattr(parts[0], "upsamples"):
        raise BadInput(
            f"The VAE is a {type(tree).__name__}, which Longtake cannot stream; connect Load VAE "
            "with a Wan 2.1 VAE, or the VAE of Load Demo Model."
        )
    if channels != LATENT_CHANNELS:
        raise BadInput(
            f"The VAE has {channels} latent channels and the model {LATENT_CHANNELS}; connect Load "
            "VAE with a Wan 2.1 VAE."
        )
    return WanVAE(vae)
