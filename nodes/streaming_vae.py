"""VAEs that can stream: the demo's, and the host's Wan 2.1, LightVAE, Wan 2.2 and tiny ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import BadInput
from ..model.vae.agreement import LEAST, agreement, sees
from ..model.vae.decoder_memory import DecoderMemory, tiny_decoder_memory
from ..model.vae.latent_format import FORMATS, FRAMES_PER_LATENT, WAN21, WAN22, LatentFormat
from ..model.vae.streaming import StreamingDecoder, StreamingEncoder
from ..model.vae.taehv_streaming import (
    TAEHVStreamingDecoder,
    TAEHVStreamingEncoder,
)
from ..model.vae.taehv_streaming import decoder_state_values as tiny_state_values
from ..model.vae.tiles import TiledDecoder, tiles
from ..model.vae.wan22_streaming import Wan22StreamingDecoder, Wan22StreamingEncoder
from ..model.vae.wan_state import decoder_state_values
from ..model.vae.wan_streaming import WanStreamingDecoder, WanStreamingEncoder
from .demo_objects import DemoVAE

WIDEST = {WAN21.channels: 96, WAN22.channels: 256}  # channels at full resolution, official VAEs
RAW_LATENTS = "longtake_raw_latents"  # set on a host's VAE by Load Wan VAE

Decoder = StreamingDecoder | WanStreamingDecoder | TAEHVStreamingDecoder | TiledDecoder
Encoder = StreamingEncoder | WanStreamingEncoder | TAEHVStreamingEncoder


class StreamingVAE:
    """The host's VAE object around a demo VAE."""

    def __init__(self, vae: Any, form: LatentFormat = WAN21) -> None:
        self.vae, self.form = vae, form
        self.patcher, self.device, self.dtype = vae.patcher, vae.device, vae.vae_dtype
        self.tree = vae.first_stage_model

    def open_decoder(self) -> Decoder:
        """A decoder at the start of a video."""
        return StreamingDecoder(self.tree)

    def open_encoder(self) -> Encoder:
        """An encoder at the start of a video."""
        return StreamingEncoder(self.tree)

    def decoder_memory(self, frames: int, rows: int, columns: int) -> DecoderMemory:
        """What decoding chunks of so many latent frames of this size takes."""
        return tiny_decoder_memory(self.tree, frames, rows, columns, self.patcher.load_device)

    def encoder_bytes(self, height: int, width: int) -> int:
        """What encoding a few pictures of this size takes, about."""
        return 0

    def check_fits(self, channels: int) -> None:
        """Refuse to decode for a model whose latents have other channels."""
        if channels != self.form.channels:
            wanted = FORMATS[channels].title
            raise BadInput(
                f"The VAE has {self.form.channels} latent channels ({self.form.title}) and the "
                f"model {channels}; connect Load VAE with a {wanted} VAE."
            )


def check_belongs(vae: StreamingVAE, latent: Tensor, picture: Tensor) -> None:
    """Refuse a VAE that decodes a shot's first latent (c, h, w) to a picture (3, H, W) of which it
    makes quite another latent itself.
    """
    if not hasattr(vae.tree, "encoder"):
        return
    factor, place = vae.form.spatial_factor, picture.to(vae.device)
    found = agreement(vae.open_encoder, latent, place, factor)
    if found < LEAST and sees(vae.open_encoder, vae.open_decoder, factor, place):
        raise BadInput(
            f"The VAE does not know these latents: what it makes of the first one agrees with it "
            f"by {max(0.0, found):.2f} (right ones: 0.9 or more), so it belongs to another model; "
            "connect the VAE of this model, here and wherever known frames were encoded."
        )


class HostVAE(StreamingVAE):
    """A VAE of the host's own: the state is known, the host estimates one decode."""

    def decoder_memory(self, frames: int, rows: int, columns: int) -> DecoderMemory:
        """What is kept by the decoder's layers, on top the host's own estimate for one decode."""
        shape = (1, self.form.channels, frames, rows, columns)
        working = int(self.vae.memory_used_decode(shape, self.dtype))
        state = int(self._state_values() * rows * columns * self.dtype.itemsize)
        return DecoderMemory(state, working)

    def encoder_bytes(self, height: int, width: int) -> int:
        """The host's own estimate for encoding a latent frame."""
        shape = (1, 3, FRAMES_PER_LATENT, height, width)
        return int(self.vae.memory_used_encode(shape, self.dtype))

    def _state_values(self) -> float:
        """Numbers that the decoder keeps per row and column of the latent."""
        raise NotImplementedError


class WanVAE(HostVAE):
    """A Wan VAE of either generation; LightVAE is a narrower one."""

    def open_decoder(self) -> WanStreamingDecoder:
        """A decoder at the start of a video."""
        kind = WanStreamingDecoder if self.form is WAN21 else Wan22StreamingDecoder
        return kind(self.tree, self.dtype)

    def open_encoder(self) -> WanStreamingEncoder:
        """An encoder at the start of a video."""
        kind = WanStreamingEncoder if self.form is WAN21 else Wan22StreamingEncoder
        return kind(self.tree, self.dtype)

    def _state_values(self) -> float:
        """The plan of `wan_state`; a narrower VAE keeps less in proportion."""
        share = self.tree.decoder.head[0].gamma.shape[0] / WIDEST[self.form.channels]
        return decoder_state_values(five_b=self.form is WAN22) * share


class TinyVAE(HostVAE):
    """A TAEHV or lighttae; which one, Load Wan VAE has noted, or the host has guessed."""

    @property
    def raw(self) -> bool:
        """Whether it wants latents that are not normalised, as lighttae does."""
        noted = getattr(self.vae, RAW_LATENTS, None)
        return self.tree.latent_format is None if noted is None else noted

    def open_decoder(self) -> TAEHVStreamingDecoder:
        """A decoder at the start of a video."""
        return TAEHVStreamingDecoder(self.tree, self.dtype, raw=self.raw)

    def open_encoder(self) -> TAEHVStreamingEncoder:
        """An encoder at the start of a video."""
        return TAEHVStreamingEncoder(self.tree, self.dtype, raw=self.raw)

    def _state_values(self) -> float:
        """A frame for every memory block."""
        return tiny_state_values(self.tree)


class TiledVAE(StreamingVAE):
    """Another VAE, decoding in tiles of at most `pixels` to a side."""

    def __init__(self, whole: StreamingVAE, pixels: int) -> None:
        super().__init__(whole.vae, whole.form)
        self._whole, self._side = whole, max(1, pixels // whole.form.spatial_factor)

    def open_decoder(self) -> TiledDecoder:
        """A decoder at the start of a video."""
        return TiledDecoder(self._whole.open_decoder, self._side)

    def open_encoder(self) -> Encoder:
        """An encoder at the start of a video, of whole pictures."""
        return self._whole.open_encoder()

    def decoder_memory(self, frames: int, rows: int, columns: int) -> DecoderMemory:
        """Every tile keeps its own; they are decoded one after another."""
        sizes = [(t.bottom - t.top, t.right - t.left) for t in tiles(rows, columns, self._side)]
        memories = [self._whole.decoder_memory(frames, *size) for size in sizes]
        return DecoderMemory(
            sum(one.state_bytes for one in memories), max(one.working_bytes for one in memories)
        )


def streaming_vae(vae: Any, tile_pixels: int = 0) -> StreamingVAE:
    """The VAE, if it can stream, in tiles if `tile_pixels` says so."""
    whole = StreamingVAE(vae) if isinstance(vae, DemoVAE) else _of_host(vae)
    return TiledVAE(whole, tile_pixels) if tile_pixels else whole


def _of_host(vae: Any) -> StreamingVAE:
    tree = getattr(vae, "first_stage_model", vae)
    decoder = getattr(tree, "decoder", None)
    tiny = isinstance(decoder, nn.Sequential) and hasattr(tree, "patch_size")
    if not tiny and not (hasattr(decoder, "upsamples") and hasattr(tree, "conv2")):
        raise BadInput(
            f"The VAE is a {type(tree).__name__}, which Longtake cannot stream; connect Load VAE "
            "with a Wan VAE or a tiny one for Wan, or the VAE of Load Demo Model."
        )
    form = FORMATS.get(getattr(vae, "latent_channels", 0))
    if form is None:
        raise BadInput(
            f"The VAE has {vae.latent_channels} latent channels, and Wan's have "
            f"{' or '.join(map(str, FORMATS))}; connect Load VAE with a Wan VAE."
        )
    return TinyVAE(vae, form) if tiny else WanVAE(vae, form)
