"""VAE Decode (Stream) and VAE Encode (Stream): chunks of latents to pictures and back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...model.vae.latent_format import WAN21, WAN22, denormalise
from ...model.vae.protocol import StreamingCoder
from ...stream.rollout.out_of_memory import explain_lack
from .. import categories, host, sockets
from ..models.model_facts import facts
from ..models.streaming_vae import StreamingVAE, check_belongs, streaming_vae
from ..runtime.host_rollout import HostRollout
from ..schema import build
from ..validation import refuses
from .decoded import open_frames
from .latent_frames import open_latent
from .pictures import to_frames
from .source import FrameSource
from .vae_device import streaming_vae_on

VAE_TIP = (
    "The VAE of the model: from Load Demo Model, or Load VAE with the Wan 2.1 VAE (Wan 2.2 VAE for "
    "Wan 2.2 5B). Load Wan VAE loads tiny ones, which are faster and coarser."
)
MAX_TILE = 4096
VIDEO, KEYFRAMES, LATER = "a video", "keyframes", "later keyframes"
OPENING = "longtake_opening"
"""In a LATENT: whether it is a picture, or begins with one, encoded as those that begin a shot."""
STILL_PICTURES = 17
"""Five latent frames of a still picture. The fifth one equals that of a long still within a few
per cent (Wan's VAE with random weights), or exactly (the demo's).
"""


def _check_device(decode_on: str) -> None:
    """Refuse (BadInput) a device that another computer had."""
    host.device_named(decode_on)


@refuses(_check_device)
class VAEDecodeStream(io.ComfyNode):
    """Turns a ROLLOUT or a LATENT into FRAMES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeVAEDecode",
            display_name="VAE Decode (Stream)",
            category=categories.FRAMES,
            description="Turns each chunk into pictures as soon as it is finished. Several outputs "
            "can share the frames; each chunk is made and decoded once.",
            search_aliases=["latent to frames", "decode video", "streaming vae"],
            inputs=[
                io.MultiType.Input(
                    "rollout",
                    [sockets.Rollout, io.Latent],
                    tooltip="From the Diffusion-Forcing Sampler, or a video latent (LATENT).",
                ),
                io.Vae.Input("vae", tooltip=VAE_TIP),
                io.Int.Input(
                    "tile_size",
                    default=0,
                    min=0,
                    max=MAX_TILE,
                    step=64,
                    optional=True,
                    advanced=True,
                    tooltip="Side of the tiles to decode in, in pixels, 0 to "
                    f"{MAX_TILE}. Tiles need less memory and more time, and change the "
                    "pictures slightly. 0: whole pictures.",
                ),
                io.Combo.Input(
                    "decode_on",
                    options=host.device_names(),
                    default=host.DEFAULT,
                    optional=True,
                    advanced=True,
                    tooltip="`default`: where ComfyUI runs the VAE, in turn with the model. `cpu` "
                    "or another GPU: each chunk is decoded there while the next one is generated.",
                ),
            ],
            outputs=[sockets.Frames.Output(display_name="frames")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        rollout: HostRollout | Mapping[str, Any],
        vae: Any,
        tile_size: int = 0,
        decode_on: str = host.DEFAULT,
    ) -> io.NodeOutput:
        """Open the frames; chunks are decoded when an output asks for them."""
        decoding = streaming_vae_on(vae, host.device_named(decode_on), tile_size)
        node_id = cls.hidden.unique_id
        if not isinstance(rollout, HostRollout):
            return io.NodeOutput(open_latent(rollout, decoding, node_id))
        model = rollout.claim.model
        check_belongs(decoding, model, rollout.model.config.out_channels)
        return io.NodeOutput(open_frames(rollout, decoding, facts(model).preset.fps, node_id))


class VAEEncodeStream(io.ComfyNode):
    """IMAGE or FRAMES to LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeVAEEncode",
            display_name="VAE Encode (Stream)",
            category=categories.FRAMES,
            description="Encodes any number of pictures into one video latent, with constant "
            "memory. Takes the whole stream before the next node runs.",
            search_aliases=["encode video", "image to latent", "video to latent"],
            inputs=[
                io.MultiType.Input(
                    "pixels",
                    [io.Image, sockets.Frames],
                    tooltip="Pictures in order, or frames. Width and height: multiples of "
                    f"{WAN21.spatial_factor} ({WAN22.spatial_factor} for Wan 2.2). The first "
                    "latent frame is 1 picture, each other is 4; the last picture is repeated to "
                    "complete them.",
                ),
                io.Vae.Input("vae", tooltip=VAE_TIP),
                io.Combo.Input(
                    "pictures",
                    optional=True,
                    options=[VIDEO, KEYFRAMES, LATER],
                    default=VIDEO,
                    advanced=True,
                    tooltip="`a video`: pictures that follow one another. `keyframes`: each is its "
                    "own latent frame, for Known Frames with a spacing; the first one "
                    "begins the shot. `later keyframes`: none begins it, for a last picture; each "
                    "costs the encoding of 17 pictures.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(
        cls, pixels: Tensor | FrameSource, vae: Any, pictures: str = VIDEO
    ) -> io.NodeOutput:
        """Encode a few pictures at a time."""
        frames = to_frames(pixels)
        if frames.plan_only:
            host.show_status(
                cls.hidden.unique_id, f"Dry run, nothing is encoded: {frames.plan.text}"
            )
            return io.NodeOutput(host.nothing_to_give())
        vae = streaming_vae(vae)
        with _pieces(frames, vae.form.spatial_factor) as pieces:
            if pictures == VIDEO:
                latents = await _video(vae, pieces)
            else:
                latents = await _keyframes(vae, pieces, opening=pictures == KEYFRAMES)
        opens = pictures == KEYFRAMES or (pictures == VIDEO and len(latents) == 1)
        return io.NodeOutput({"samples": to_latent(latents), OPENING: opens})


def to_latent(latents: Tensor) -> Tensor:
    """Convert normalised latents (f, c, h, w) to the host's raw samples (1, c, f, h, w)."""
    return denormalise(latents).transpose(0, 1).unsqueeze(0).to(host.runtime_device())


async def _video(vae: StreamingVAE, pieces: AsyncIterator[Tensor]) -> Tensor:
    """Encode consecutive pictures to normalised latents (f, c, h, w)."""
    encoder = vae.open_encoder()
    latents = [_feed(vae, encoder, piece) async for piece in pieces]
    return torch.cat([*latents, *_drain(vae, encoder)])


async def _keyframes(vae: StreamingVAE, pieces: AsyncIterator[Tensor], *, opening: bool) -> Tensor:
    """Encode each picture alone, as a still, to one latent frame (f, c, h, w).

    With `opening` the first picture becomes the first latent frame of a shot.
    """
    latents = list[Tensor]()
    async for piece in pieces:
        for picture in piece:
            repeats = 1 if opening and not latents else STILL_PICTURES
            encoder = vae.open_encoder()
            encoded = _feed(vae, encoder, picture.repeat(repeats, 1, 1, 1))
            latents.append(torch.cat([encoded, *_drain(vae, encoder)])[-1:])
    return torch.cat(latents)


def _feed(vae: StreamingVAE, encoder: StreamingCoder, pictures: Tensor) -> Tensor:
    """Feed pictures (n, 3, H, W); return the latents (f, c, h, w) that they complete."""
    host.check_interrupted()
    room = vae.encoder_bytes(len(pictures), *pictures.shape[-2:]) - encoder.state_bytes
    host.claim([vae.patcher], max(0, room))
    height, width = pictures.shape[-2:]
    where = f"while pictures of {width}x{height} were encoded"
    lack = explain_lack(where, "give smaller pictures", keeps="")
    with host.computing_on(vae.device), lack:
        return encoder.feed(pictures.to(vae.device)).cpu()


def _drain(vae: StreamingVAE, encoder: StreamingCoder) -> list[Tensor]:
    """Return the remaining latents in a list, which may be empty."""
    with host.computing_on(vae.device):
        rest = encoder.drain()
    return [] if rest is None else [rest.cpu()]


@contextmanager
def _pieces(frames: FrameSource, multiple: int) -> Iterator[AsyncIterator[Tensor]]:
    """Iterate over pictures (n, 3, H, W), a few at a time; refuse sides of no `multiple`."""
    if frames.height % multiple or frames.width % multiple:
        raise BadInput(
            f"The pictures are {frames.width}x{frames.height}; scale or crop them to multiples of "
            f"{multiple}."
        )
    with frames.chunks.subscribe() as reader:
        yield (chunk.frames async for chunk in reader)
