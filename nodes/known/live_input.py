"""Live Input: the newest pictures of a stream as known frames of the next chunk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from threading import Event
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...model.config import FRAMES_PER_LATENT
from ...samplers.settings import RolloutSettings
from ...stream.incoming.address import SourceAddress
from ...stream.incoming.inlet import KINDS, Inlet, Kind, Wish
from ...stream.incoming.opening import opening
from ...stream.incoming.page_source import PageSource
from ...stream.incoming.receiver import Connect, Receiver
from ...stream.rollout.live.edit_queue import LEAST_LEVEL
from ...stream.rollout.live_input import LiveInput, Tell
from .. import categories, host, sockets
from ..models.streaming_vae import StreamingVAE, streaming_vae
from ..schema import build
from ..validation import refuses
from .known_frames import KnownClip

MAX_TAKE = 9999


def _place(source: str, url: str) -> SourceAddress | Kind:
    """Where the pictures come from; BadInput for an address that is none or is not opened."""
    pages = [kind for kind in KINDS if kind == source]
    return pages[0] if pages else SourceAddress.parse(url)


@refuses(_place)
class LiveInputNode(io.ComfyNode):
    """An address to KNOWN_FRAMES that nobody knows yet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeLiveInput",
            display_name="Live Input (Stream)",
            category=categories.PROMPT,
            description="Redraws a camera or another live stream under the prompt, while it comes. "
            "Each chunk takes the newest pictures. What was used stays on disk, so the same shot "
            "can be made again without the camera.",
            search_aliases=["camera", "rtsp", "ndi", "video to video", "v2v", "live", "realtime"],
            inputs=_inputs(),
            outputs=[sockets.KnownFrames.Output(display_name="known_frames")],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        source: str,
        url: str,
        vae: object,
        level: float,
        take: int,
        stall: float,
        known_frames: tuple[object, ...] = (),
    ) -> io.NodeOutput:
        """Check the address; it is opened when the shot's first chunk begins."""
        live = LiveSource(_place(source, url), streaming_vae(vae), level, take, stall)
        return io.NodeOutput((*known_frames, live))


NO_PAGE = (
    "The pictures come from a browser, and none follows this run; add --watch to the command, "
    "press Run on the canvas, or give Live Input an address."
)


@dataclass(frozen=True, eq=False)
class LiveSource:
    """A live address, or a page's camera or screen, among known frames.

    `level` is the noise level, `stall_s` in seconds.
    """

    place: SourceAddress | Kind
    vae: StreamingVAE
    level: float
    take: int
    stall_s: float

    def open_for(self, settings: RolloutSettings, fps: float) -> LiveInput:
        """The live input of a shot with these settings; BadInput if the VAE does not fit."""
        factor = self.vae.form.spatial_factor
        size = settings.columns * factor, settings.rows * factor
        encoder = LiveEncoder(self.vae, size)
        most = FRAMES_PER_LATENT * settings.active_frames + 1

        def receive(tell: Tell, inlet: Inlet) -> Receiver:
            return Receiver(self._connect(inlet, size, fps), size, fps, most, tell)

        return LiveInput(self._name, self.level, receive, encoder.encode, (encoder,))

    def _connect(self, inlet: Inlet, size: tuple[int, int], fps: float) -> Connect:
        """What opens the source; its pictures come from a page, or from its address."""
        place, stall_s = self.place, self.stall_s
        if isinstance(place, SourceAddress):
            return opening(place, stall_s)

        def ask(ended: Event) -> PageSource:
            if not host.has_page():
                raise BadInput(NO_PAGE)
            return PageSource(inlet, Wish(place, *size, fps), stall_s, ended)

        return ask

    @property
    def _name(self) -> str:
        vae = f"{self.vae.weights_name} {self.vae.dtype}"
        place = self.place.url if isinstance(self.place, SourceAddress) else self.place
        text = f"{place} {self.take} {self.level} {vae}"
        return hashlib.sha256(text.encode()).hexdigest()


class LiveEncoder:
    """Encodes pictures of one size (width, height) as they come; claimed with the model."""

    def __init__(self, vae: StreamingVAE, size: tuple[int, int]) -> None:
        self._vae, self._size = vae, size
        self.patcher = vae.patcher

    @property
    def required_bytes(self) -> int:
        """Bytes that encoding the next pictures allocates."""
        width, height = self._size
        return self._vae.encoder_bytes(FRAMES_PER_LATENT, height, width)

    def encode(self, pictures: Tensor) -> Tensor:
        """Normalised latents (f, c, h, w) on the CPU of pictures (n, 3, H, W), as a video."""
        host.claim([self.patcher], self.required_bytes)
        encoder, parts = self._vae.open_encoder(), list[Tensor]()
        for piece in pictures.split(FRAMES_PER_LATENT):
            with host.computing_on(self._vae.device):
                parts.append(encoder.feed(piece.to(self._vae.device)).cpu())
        rest = encoder.drain()
        if rest is not None:
            parts.append(rest.cpu())
        return torch.cat(parts)


def live_source(known: object) -> LiveSource | None:
    """The live source among the sampler's known frames, if there is one; BadInput for more."""
    sources = [part for part in known if isinstance(part, LiveSource)] if _is_chain(known) else []
    if len(sources) > 1:
        raise BadInput(
            f"A shot takes one live input, and {len(sources)} are connected; remove the other Live "
            "Input nodes."
        )
    return sources[0] if sources else None


def given_clips(known: Any) -> Any:
    """The known frames that are there before the shot begins."""
    if not _is_chain(known):
        return known
    return tuple(part for part in known if isinstance(part, KnownClip)) or None


def check_source(source: LiveSource, channels: int) -> None:
    """Refuse (BadInput) a VAE whose latents are not those of the model."""
    if source.vae.form.channels != channels:
        raise BadInput(
            f"The VAE of Live Input has {source.vae.form.channels} latent channels, but the model "
            f"has {channels}; connect the VAE of the model."
        )


def _is_chain(known: object) -> bool:
    return isinstance(known, tuple)


def _inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "source",
            options=["url", *KINDS],
            default="url",
            tooltip="Where the pictures come from. `url`: a camera or stream at an address. "
            "`webcam`: the camera of the browser that shows the Streaming Preview. `screen`: a "
            "screen, window or tab of that browser. The preview has a button for these.",
        ),
        io.String.Input(
            "url",
            default="",
            tooltip="For `url`: an address that begins with rtsp, rtsps, udp, srt, "
            "http or https, as cameras, ffmpeg and OBS give, or ndi:// and the name of an NDI "
            "source. A video file by http plays at its own speed. For a file of this machine use "
            "Known Video (Stream).",
        ),
        io.Vae.Input("vae", tooltip="The VAE that belongs to the model."),
        io.Float.Input(
            "level",
            default=0.7,
            min=LEAST_LEVEL,
            max=1.0,
            step=0.01,
            tooltip="How much the prompt redraws: the noise level that the pictures start from, "
            f"{LEAST_LEVEL} to 1 (no unit). 0.5 to 0.9 keeps layout and motion. 1 keeps nothing.",
        ),
        io.Int.Input(
            "take",
            default=1,
            min=1,
            max=MAX_TAKE,
            tooltip=f"Number of the performance, 1 to {MAX_TAKE:,}. The same number shows again "
            "what came in before, without the camera. Another number receives anew.",
        ),
        io.Float.Input(
            "stall",
            default=10.0,
            min=0.5,
            max=300.0,
            step=0.5,
            advanced=True,
            tooltip="Seconds without a picture, 0.5 to 300, after which the source counts as lost. "
            "The shot then goes on under the prompt, and takes the source up when it is back.",
        ),
        sockets.KnownFrames.Input(
            "known_frames",
            optional=True,
            tooltip="Other known frames to add to, such as a first picture.",
        ),
    ]
