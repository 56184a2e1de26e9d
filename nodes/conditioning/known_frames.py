"""Known Frames: pictures and clips that are part of a shot, each at a time and a noise level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...model.config import DiTConfig
from ...model.vae.latent_format import FORMATS, latent_frame_count, normalise
from ...samplers.conditioning import known_frames
from ...samplers.conditioning.known_frame import LazyLatents
from .. import categories, sockets
from ..length import FRAMES, MAX_SECONDS, SECONDS
from ..schema import build

MAX_SPACING = 1024
MAX_AHEAD = 1024


@dataclass(frozen=True, slots=True)
class KnownClip:
    """Normalised latents (f, c, h, w), here or to come, that begin at `start` seconds or frames.

    `fps` is the rate of the video that they are made of, if that is known.
    """

    latents: Tensor | Sequence[LazyLatents]
    start: float = 0.0
    unit: str = SECONDS
    spacing: int = 1
    level: float = 0.0
    ahead: int = 0
    fps: float | None = None

    @property
    def channels(self) -> int:
        """Of a latent frame."""
        return self.latents[0].shape[0]

    def placed(self, fps: float) -> known_frames.KnownFrames:
        """On the latent frames of a shot; a start belongs to the one that shows it."""
        if self.fps not in (None, fps):
            raise BadInput(
                f"The video is read at {self.fps:g} frames a second and the model makes {fps:g}; "
                f"set fps of Video to Frames to {fps:g}."
            )
        frame = round(self.start * fps if self.unit == SECONDS else self.start)
        start = latent_frame_count(frame + 1) - 1
        return known_frames.from_latents(
            self.latents, start, spacing=self.spacing, level=self.level, lookahead=self.ahead
        )


class KnownFrames(io.ComfyNode):
    """LATENT to KNOWN_FRAMES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeKnownFrames",
            display_name="Known Frames",
            category=categories.PROMPT,
            description="Puts pictures or a clip into the shot: a first picture, a video to go on "
            "from or to redraw, pictures in between. Chain as many as you like.",
            search_aliases=["image to video", "i2v", "video to video", "v2v", "first last frame",
                            "keyframes", "inpaint", "continue video"],
            inputs=_inputs(),
            outputs=[sockets.KnownFrames.Output(display_name="known_frames")],
        )  # fmt: skip

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        latent: Mapping[str, Any],
        start: float,
        start_unit: str,
        spacing: int,
        level: float,
        known_frames: tuple[KnownClip, ...] = (),
        ahead: int = 0,
    ) -> io.NodeOutput:
        """The earlier ones and this one."""
        clip = KnownClip(_latents(latent), start, start_unit, spacing, level, ahead)
        return io.NodeOutput((*known_frames, clip))


def placed(
    given: tuple[KnownClip, ...] | Mapping[str, Any] | None, fps: float, config: DiTConfig
) -> known_frames.KnownFrames:
    """What is connected to a sampler, at its places; a plain LATENT is clean, from the start on."""
    if given is None:
        return known_frames.KnownFrames()
    clips = given if isinstance(given, tuple) else (KnownClip(_latents(given)),)
    for clip in clips:
        if clip.channels != config.out_channels:
            raise BadInput(
                f"The known frames have {clip.channels} latent channels and the model "
                f"{config.out_channels}; encode the pictures with the model's own VAE."
            )
    return known_frames.merge(clip.placed(fps) for clip in clips)


def _latents(latent: Mapping[str, Any]) -> Tensor:
    """The host's raw LATENT (1, c, f, h, w) as normalised latents (f, c, h, w) on the CPU."""
    samples = latent["samples"]
    if samples.ndim != 5 or samples.shape[1] not in FORMATS:
        raise BadInput(
            "The latent of the known frames is one of another model; encode the pictures with VAE "
            "Encode (Stream) and the video model's VAE."
        )
    if samples.shape[0] != 1:
        raise BadInput(
            f"The latent of the known frames is a batch of {samples.shape[0]} videos; a shot takes "
            "one: connect one Known Frames node for each."
        )
    if latent.get("noise_mask") is not None:
        raise BadInput(
            "The latent of the known frames has a mask, and only whole frames can be known; leave "
            "the mask out."
        )
    return normalise(samples[0].transpose(0, 1).float()).cpu()


def _inputs() -> list[io.Input]:
    return [
        io.Latent.Input(
            "latent",
            tooltip="From VAE Encode (Stream): one picture, or a clip. As wide and high as the "
            "shot.",
        ),
        *start_inputs(),
        io.Int.Input(
            "spacing",
            default=1,
            min=1,
            max=MAX_SPACING,
            tooltip="Latent frames from one latent of the clip to the next, 1 to "
            f"{MAX_SPACING:,}. 1 is the clip as it is; more leaves gaps that are made.",
        ),
        level_input(),
        sockets.KnownFrames.Input(
            "known_frames", optional=True, tooltip="Known frames to add these to."
        ),
        ahead_input(),
    ]


def start_inputs() -> list[io.Input]:
    """When in the shot a clip begins."""
    return [
        io.Float.Input(
            "start",
            default=0.0,
            min=0.0,
            max=float(MAX_SECONDS * 100),
            step=0.01,
            tooltip="When in the shot it begins, in the unit below, 0 to "
            f"{MAX_SECONDS * 100:,}; it goes to the latent frame (4 frames of video) "
            "that shows that time.",
        ),
        io.Combo.Input(
            "start_unit",
            options=[SECONDS, FRAMES],
            default=SECONDS,
            tooltip="Seconds, or frames of video.",
        ),
    ]


def level_input() -> io.Input:
    """How much of a clip is redrawn."""
    return io.Float.Input(
        "level",
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="How much is redrawn: the noise level the frames start from, 0 to 1. 0 keeps "
        "them as they are (a first picture, a video to go on from); 0.5 to 0.9 keeps layout "
        "and motion and lets the prompt change the rest (video to video); 1 keeps nothing.",
    )


def ahead_input() -> io.Input:
    """From how far away a clip is seen."""
    return io.Int.Input(
        "ahead",
        optional=True,
        default=0,
        min=0,
        max=MAX_AHEAD,
        tooltip="From how many latent frames before them the frames are seen coming, 0 to "
        f"{MAX_AHEAD:,}. 0: only by the chunk they are in. Models that were trained to look "
        "ahead find a smooth way to them; others, the demo too, hardly use it.",
    )
