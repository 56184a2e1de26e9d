"""VAE Decode (Stream) and VAE Encode (Stream): between latents and pictures, a chunk at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...model.vae.latent_format import WAN21, WAN22, denormalise
from ...model.vae.protocol import StreamingCoder
from .. import categories, host, sockets
from ..models.model_facts import facts
from ..models.streaming_vae import StreamingVAE, streaming_vae
from ..runtime.host_rollout import HostRollout
from ..schema import build
from .decoded import open_frames
from .source import FrameSource

PIECE_FRAMES = 16
VAE_TIP = (
    "The VAE that belongs to the model: of Load Demo Model; Load VAE with the Wan 2.1 VAE, or the "
    "Wan 2.2 VAE for Wan 2.2 5B; Load Wan VAE for tiny ones, which are faster and coarser."
)
MAX_TILE = 4096
VIDEO, KEYFRAMES, LATER = "a video", "keyframes", "later keyframes"
STANDING_PICTURES = 17
"""Five latent frames of a picture that stands: what a VAE's encoder makes of the fifth is that of a
long still to a few per cent (Wan's, with random weights), and to the bit with the demo's.
"""


class VAEDecodeStream(io.ComfyNode):
    """Turns a ROLLOUT into FRAMES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeVAEDecode",
            display_name="VAE Decode (Stream)",
            category=categories.FRAMES,
            description="Turns each chunk into pictures as soon as it is made. Several outputs can "
            "take the same frames; each chunk is made and decoded once.",
            search_aliases=["latent to frames", "decode video", "streaming vae"],
            inputs=[
                sockets.Rollout.Input("rollout", tooltip="From the Diffusion-Forcing Sampler."),
                io.Vae.Input("vae", tooltip=VAE_TIP),
                io.Int.Input(
                    "tile_size",
                    default=0,
                    min=0,
                    max=MAX_TILE,
                    step=64,
                    optional=True,
                    tooltip="Decode in tiles of at most so many pixels to a side (0 to "
                    f"{MAX_TILE}), blended: less memory at a time, more time, and not quite "
                    "the same pictures. 0 decodes whole pictures.",
                ),
            ],
            outputs=[sockets.Frames.Output(display_name="frames")],
        )

    @classmethod
    def execute(cls, rollout: HostRollout, vae: Any, tile_size: int = 0) -> io.NodeOutput:
        """Nothing is decoded yet."""
        decoding = streaming_vae(vae, tile_size)
        decoding.check_fits(rollout.model.config.out_channels)
        return io.NodeOutput(open_frames(rollout, decoding, facts(rollout.claim.model).preset.fps))


class VAEEncodeStream(io.ComfyNode):
    """IMAGE or FRAMES to LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeVAEEncode",
            display_name="VAE Encode (Stream)",
            category=categories.FRAMES,
            description="Encodes pictures of any number into one video latent with constant "
            "memory. Takes the whole stream before what follows runs.",
            search_aliases=["encode video", "image to latent", "video to latent"],
            inputs=[
                io.MultiType.Input(
                    "pixels",
                    [io.Image, sockets.Frames],
                    tooltip="Pictures in order, or frames; width and height multiples of "
                    f"{WAN21.spatial_factor} ({WAN22.spatial_factor} for Wan 2.2). The "
                    "last 1 to 3 are completed by repeating the last picture: a latent frame is 4 "
                    "pictures, the first one.",
                ),
                io.Vae.Input("vae", tooltip=VAE_TIP),
                io.Combo.Input(
                    "pictures",
                    optional=True,
                    options=[VIDEO, KEYFRAMES, LATER],
                    default=VIDEO,
                    tooltip="What the pictures are. `a video`: one after the other. `keyframes`: "
                    "each a latent frame of its own, for Known Frames with a spacing; the first "
                    "one begins the shot. `later keyframes`: none of them begins it; for a last "
                    "picture. A later one takes the encoding of 17.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(
        cls, pixels: Tensor | FrameSource, vae: Any, pictures: str = VIDEO
    ) -> io.NodeOutput:
        """Encode piece by piece."""
        if not isinstance(pixels, Tensor) and pixels.plan_only:
            host.show_status(cls.hidden.unique_id, f"Nothing is encoded: {pixels.plan.text}")
            return io.NodeOutput(host.nothing_to_give())
        vae = streaming_vae(vae)
        with _pieces(pixels, vae.form.spatial_factor) as pieces:
            if pictures == VIDEO:
                latents = await _video(vae, pieces)
            else:
                latents = await _keyframes(vae, pieces, opening=pictures == KEYFRAMES)
        return io.NodeOutput({"samples": to_latent(latents)})


def to_latent(latents: Tensor) -> Tensor:
    """Normalised latents (f, c, h, w) as the host's raw LATENT samples (1, c, f, h, w)."""
    return denormalise(latents).transpose(0, 1).unsqueeze(0).to(host.runtime_device())


async def _video(vae: StreamingVAE, pieces: AsyncIterator[Tensor]) -> Tensor:
    """Normalised latents (f, c, h, w) of pictures that follow one another."""
    encoder = vae.open_encoder()
    latents = [_fed(vae, encoder, piece) async for piece in pieces]
    return torch.cat([*latents, *_drained(encoder)])


async def _keyframes(vae: StreamingVAE, pieces: AsyncIterator[Tensor], *, opening: bool) -> Tensor:
    """A latent frame of each picture alone, as if it stood still; of the first, if it is the
    shot's `opening`, the one that a shot begins with.
    """
    latents = list[Tensor]()
    async for piece in pieces:
        for picture in piece:
            often = 1 if opening and not latents else STANDING_PICTURES
            encoder = vae.open_encoder()
            made = _fed(vae, encoder, picture.repeat(often, 1, 1, 1))
            latents.append(torch.cat([made, *_drained(encoder)])[-1:])
    return torch.cat(latents)


def _fed(vae: StreamingVAE, encoder: StreamingCoder, pictures: Tensor) -> Tensor:
    """The latents (f, c, h, w) that are finished with these pictures (n, 3, H, W)."""
    host.check_interrupted()
    room = vae.encoder_bytes(len(pictures), *pictures.shape[-2:]) - encoder.state_bytes
    host.claim([vae.patcher], max(0, room))
    return encoder.feed(pictures.to(vae.device)).cpu()


def _drained(encoder: StreamingCoder) -> list[Tensor]:
    """What is left, in a list or not at all."""
    rest = encoder.drain()
    return [] if rest is None else [rest.cpu()]


@contextmanager
def _pieces(pixels: Tensor | FrameSource, multiple: int) -> Iterator[AsyncIterator[Tensor]]:
    """Pictures (n, 3, H, W), a few at a time; sides are whole multiples."""
    if isinstance(pixels, Tensor):
        height, width = pixels.shape[1:3]
    else:
        height, width = pixels.height, pixels.width
    if height % multiple or width % multiple:
        raise BadInput(
            f"The pictures are {width}x{height}; scale or crop them to multiples of {multiple}."
        )
    if isinstance(pixels, Tensor):
        yield _split(pixels)
    else:
        with pixels.chunks.subscribe() as reader:
            yield (chunk.frames async for chunk in reader)


async def _split(pictures: Tensor) -> AsyncIterator[Tensor]:
    """An IMAGE (n, H, W, c) in pieces (n, 3, H, W)."""
    for piece in pictures[..., :3].split(PIECE_FRAMES):
        yield piece.movedim(-1, 1)
