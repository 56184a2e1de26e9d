"""VAEs that can stream: the demo's, and the host's Wan 2.1, LightVAE, Wan 2.2 and tiny VAEs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ...errors import BadInput
from ...kinds import kind_of
from ...model.config import FRAMES_PER_LATENT
from ...model.fingerprint import fingerprint
from ...model.vae.agreement import LEAST, agreement, sees
from ...model.vae.decoder_memory import DecoderMemory, tiny_decoder_memory
from ...model.vae.latent_format import FORMATS, SPATIAL_FACTOR, WAN21, LatentFormat
from ...model.vae.protocol import StreamingCoder
from ...model.vae.rehearsal import rehearse
from ...model.vae.streaming import StreamingDecoder, StreamingEncoder
from ...model.vae.taehv_streaming import TAEHVStreamingDecoder, TAEHVStreamingEncoder
from ...model.vae.tiles import TiledDecoder, tiles
from ...model.vae.wan22_streaming import Wan22StreamingDecoder, Wan22StreamingEncoder
from ...model.vae.wan_streaming import WanStreamingDecoder, WanStreamingEncoder
from .. import host
from .demo_objects import DemoVAE
from .model_facts import facts, is_demo, is_demo_file

RAW_LATENTS = "longtake_raw_latents"  # set on a host's VAE by Load Wan VAE

COLOURS = 3
CHUNKS_UNTIL_FULL = 2  # after these, a stream's state no longer grows


class StreamingVAE:
    """The host's VAE object around a demo VAE.

    `tile_side` is the side of the tiles in latents, None for whole pictures.
    """

    tile_side: int | None = None

    def __init__(self, vae: Any, form: LatentFormat = WAN21) -> None:
        self.vae, self.form = vae, form
        self.patcher, self.device, self.dtype = vae.patcher, vae.device, vae.vae_dtype
        self.tree = vae.first_stage_model

    @property
    def weights_name(self) -> str:
        """Identifies the weights as they are loaded."""
        return fingerprint(self.tree.state_dict(), host.loaded_dtypes(self.tree))

    def open_decoder(self) -> StreamingCoder:
        """A decoder at the start of a video."""
        return StreamingDecoder(self.vae.decoding)

    def open_encoder(self) -> StreamingCoder:
        """An encoder at the start of a video."""
        return StreamingEncoder(self.tree)

    def decoder_memory(self, frames: int, rows: int, columns: int) -> DecoderMemory:
        """The memory for decoding chunks of `frames` latent frames."""
        return tiny_decoder_memory(self.vae.decoding, frames, rows, columns)

    def encoder_bytes(self, pictures: int, height: int, width: int) -> int:
        """The memory for encoding `pictures` at a time; next to nothing for the demo's VAE."""
        return 0

    def check_fits(self, channels: int) -> None:
        """Refuse (BadInput) a model whose latents have another number of `channels`."""
        if channels != self.form.channels:
            title = FORMATS[channels].title
            raise BadInput(
                f"The VAE has {self.form.channels} latent channels ({self.form.title}), but the "
                f"model has {channels}; connect Load VAE with a {title} VAE."
            )


def check_belongs(vae: StreamingVAE, model: Any, channels: int) -> None:
    """Refuse (BadInput) a VAE by the `channels` of the MODEL's latents, or by whose file it is."""
    vae.check_fits(channels)
    of_demo = isinstance(vae.vae, DemoVAE)
    if of_demo and not is_demo(model):
        raise BadInput(
            f"The VAE is the demo's, and the model is {facts(model).family.title}; connect Load "
            f"VAE with a {vae.form.title} VAE."
        )
    if not of_demo and is_demo(model):
        raise BadInput(
            "The model is the demo's, and the VAE is not; connect the VAE of Load Demo Model."
        )


def made_together(vae: StreamingVAE, model: Any) -> bool:
    """Whether VAE and MODEL are marked as the demo's, so that the MODEL makes the VAE's latents."""
    return isinstance(vae.vae, DemoVAE) and is_demo_file(model)


def doubt(vae: StreamingVAE, latent: Tensor, picture: Tensor) -> str | None:
    """A sentence if the VAE seems to belong to another model, else None.

    Such a VAE decodes the first latent (c, h, w) to a picture (3, H, W), but encodes that picture
    to a very different latent. A single latent proves nothing, so this is no ground for refusal.
    """
    if not hasattr(vae.tree, "encoder"):
        return None
    factor, place = vae.form.spatial_factor, picture.to(vae.device)
    score = agreement(vae.open_encoder, latent, place, factor)
    if score is None or score >= LEAST:
        return None
    if not sees(vae.open_encoder, vae.open_decoder, factor, place):
        return None
    return (
        "The VAE may belong to another model: decoded and encoded again, the first latent agrees "
        f"with itself by only {max(0.0, score):.2f} (0.9 or more is usual). If the pictures look "
        "wrong, connect the VAE of this model, here and where known frames are encoded."
    )


class HostVAE(StreamingVAE):
    """One of the host's own VAEs; its memory is measured by a rehearsal without weights."""

    def __init__(self, vae: Any, form: LatentFormat) -> None:
        super().__init__(vae, form)
        self._rehearsed: dict[tuple[int, ...], DecoderMemory] = {}

    def open_decoder(self) -> StreamingCoder:
        """A decoder at the start of a video."""
        return self._new_decoder(self.tree)

    def open_encoder(self) -> StreamingCoder:
        """An encoder at the start of a video."""
        return self._new_encoder(self.tree)

    def decoder_memory(self, frames: int, rows: int, columns: int) -> DecoderMemory:
        """Rehearse chunks until the decoder's state is complete."""
        chunk = frames, self.form.channels, rows, columns
        return self._memory(
            self._new_decoder, chunk, CHUNKS_UNTIL_FULL if frames > 1 else CHUNKS_UNTIL_FULL + 1
        )

    def encoder_bytes(self, pictures: int, height: int, width: int) -> int:
        """Rehearse chunks; the encoder's state is included."""
        at_once = max(pictures, FRAMES_PER_LATENT)  # the encoder collects this many
        memory = self._memory(self._new_encoder, (at_once, 3, height, width), CHUNKS_UNTIL_FULL + 1)
        return memory.state_bytes + memory.working_bytes

    def _memory(
        self, open_coder: Callable[[Any], Any], shape: tuple[int, ...], times: int
    ) -> DecoderMemory:
        if shape not in self._rehearsed:  # pictures and latents have different channels
            device = self.patcher.load_device
            self._rehearsed[shape] = rehearse(
                self.tree, self.dtype, open_coder, [shape] * times, device
            )
        return self._rehearsed[shape]

    def _new_decoder(self, tree: Any) -> StreamingCoder:
        raise NotImplementedError

    def _new_encoder(self, tree: Any) -> StreamingCoder:
        raise NotImplementedError


class WanVAE(HostVAE):
    """A Wan 2.1 or 2.2 VAE, or LightVAE, which is a narrower one."""

    def _new_decoder(self, tree: Any) -> WanStreamingDecoder:
        kind = WanStreamingDecoder if self.form is WAN21 else Wan22StreamingDecoder
        return kind(tree, self.dtype)

    def _new_encoder(self, tree: Any) -> WanStreamingEncoder:
        kind = WanStreamingEncoder if self.form is WAN21 else Wan22StreamingEncoder
        return kind(tree, self.dtype)


class TinyVAE(HostVAE):
    """A TAEHV or lighttae, as noted by Load Wan VAE or else as detected by the host."""

    @property
    def raw(self) -> bool:
        """Whether the VAE takes raw latents, as lighttae does, and not normalised ones."""
        noted = getattr(self.vae, RAW_LATENTS, None)
        return self.tree.latent_format is None if noted is None else noted

    def _new_decoder(self, tree: Any) -> TAEHVStreamingDecoder:
        return TAEHVStreamingDecoder(tree, self.dtype, raw=self.raw)

    def _new_encoder(self, tree: Any) -> TAEHVStreamingEncoder:
        return TAEHVStreamingEncoder(tree, self.dtype, raw=self.raw)


class TiledVAE(StreamingVAE):
    """A VAE that decodes in tiles of at most `pixels` per side."""

    def __init__(self, whole: StreamingVAE, pixels: int) -> None:
        super().__init__(whole.vae, whole.form)
        self._whole, self.tile_side = whole, max(1, pixels // whole.form.spatial_factor)

    def open_decoder(self) -> TiledDecoder:
        """A decoder at the start of a video."""
        return TiledDecoder(self._whole.open_decoder, self.tile_side)

    def open_encoder(self) -> StreamingCoder:
        """An encoder of whole pictures at the start of a video."""
        return self._whole.open_encoder()

    def decoder_memory(self, frames: int, rows: int, columns: int) -> DecoderMemory:
        """The state of all tiles, and the work of the largest; tiles are decoded in turn."""
        sizes = [(t.bottom - t.top, t.right - t.left) for t in tiles(rows, columns, self.tile_side)]
        largest = max(sizes, key=math.prod)
        memory, areas = self._whole.decoder_memory(frames, *largest), map(math.prod, sizes)
        state = memory.state_bytes * sum(areas) // math.prod(largest)
        return DecoderMemory(state, memory.working_bytes)


def streaming_vae(vae: Any, tile_pixels: int = 0) -> StreamingVAE:
    """Wrap a VAE for streaming; BadInput if it cannot. 0 `tile_pixels` decodes whole pictures."""
    whole = StreamingVAE(vae) if isinstance(vae, DemoVAE) else _wrap_host_vae(vae)
    return TiledVAE(whole, tile_pixels) if tile_pixels else whole


def is_tiny(vae: Any) -> bool:
    """Whether `vae` is the host's TAEHV or lighttae."""
    tree = getattr(vae, "first_stage_model", vae)
    return isinstance(getattr(tree, "decoder", None), nn.Sequential) and hasattr(tree, "patch_size")


def _wrap_host_vae(vae: Any) -> StreamingVAE:
    tree, tiny = getattr(vae, "first_stage_model", vae), is_tiny(vae)
    decoder = getattr(tree, "decoder", None)
    if not tiny and not (hasattr(decoder, "upsamples") and hasattr(tree, "conv2")):
        raise BadInput(
            f"The VAE is {kind_of(tree)}, which Longtake cannot stream; connect Load VAE "
            "with a Wan VAE or a tiny VAE for Wan, or the VAE of Load Demo Model."
        )
    form = FORMATS.get(getattr(vae, "latent_channels", 0))
    if form is None:
        raise BadInput(
            f"The VAE has {vae.latent_channels} latent channels, but Wan VAEs have "
            f"{' or '.join(map(str, FORMATS))}; connect Load VAE with a Wan VAE."
        )
    if tiny:
        return TinyVAE(vae, form)
    _check_colours(decoder, form)
    return WanVAE(vae, form)


def _check_colours(decoder: Any, form: LatentFormat) -> None:
    """Refuse (BadInput) a decoder whose pictures are more than red, green and blue.

    That of an upscaling VAE has four pixels in each, that of Wan-Alpha also how opaque they are.
    """
    usual = COLOURS * (form.spatial_factor // SPATIAL_FACTOR) ** 2
    channels = [len(layer.weight) for layer in decoder.head if hasattr(layer, "weight")][-1:]
    if channels not in ([], [usual]):
        raise BadInput(
            f"The VAE makes pictures of {channels[0]} channels in place of {usual}, as upscaling "
            f"and transparent ones do; connect Load VAE with the plain {form.title} VAE."
        )
