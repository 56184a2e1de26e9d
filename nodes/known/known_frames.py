"""Known Frames: pictures and clips inside a shot, each with a time and a noise level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...model.config import DiTConfig
from ...model.vae.latent_format import FORMATS, frame_count, latent_frame_count, normalise
from ...samplers.conditioning import known_frames
from ...samplers.conditioning.known_frame import LazyLatents
from .. import categories, host, sockets
from ..frames.vae import OPENING
from ..length import FRAMES, MAX_SECONDS, SECONDS, Length
from ..schema import build

MAX_SPACING = 1024
MAX_AHEAD = 1024


@dataclass(frozen=True, slots=True)
class KnownClip:
    """Normalised latents (f, c, h, w), in memory or lazy, from `start` seconds or frames on.

    `fps` is the frame rate of the source video, None if unknown.
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
        """Channels of a latent frame."""
        return self.latents[0].shape[0]

    def place(self, fps: float) -> known_frames.KnownFrames:
        """Put the clip on the latent frames that show its times."""
        if self.fps not in (None, fps):
            raise BadInput(
                f"The video is read at {self.fps:g} frames per second and the model makes {fps:g}; "
                f"set fps of the node before Known Video (Stream) to {fps:g}."
            )
        frame = round(self.start * fps if self.unit == SECONDS else self.start)
        start = latent_frame_count(frame + 1) - 1
        return known_frames.from_latents(
            self.latents, start, spacing=self.spacing, level=self.level, lookahead=self.ahead
        )


LATE_OPENING = (
    "The picture is encoded as one that begins a shot, and fits badly later; set `pictures` of VAE "
    "Encode (Stream) to `later keyframes`."
)


class KnownFrames(io.ComfyNode):
    """Turns a LATENT into KNOWN_FRAMES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeKnownFrames",
            display_name="Known Frames",
            category=categories.PROMPT,
            description="Puts pictures or a clip into the shot: a first picture, a last picture, "
            "keyframes, or a clip to redraw. Chain any number.",
            search_aliases=["image to video", "i2v", "first last frame", "keyframes", "inpaint",
                            "start image"],
            inputs=_inputs(),
            outputs=[sockets.KnownFrames.Output(display_name="known_frames")],
            hidden=[io.Hidden.unique_id],
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
        """Append the clip to the chain."""
        if start > 0 and latent.get(OPENING, False):
            host.warn(cls.hidden.unique_id, LATE_OPENING)
        clip = KnownClip(
            normalised_latents(latent, "known frames"), start, start_unit, spacing, level, ahead
        )
        return io.NodeOutput((*known_frames, clip))


def place_clips(
    known: tuple[KnownClip, ...] | Mapping[str, Any] | None, fps: float, config: DiTConfig
) -> known_frames.KnownFrames:
    """Place the sampler's known frames on the shot; a plain LATENT is clean and begins at 0."""
    if known is None:
        return known_frames.KnownFrames()
    clips = (
        known
        if isinstance(known, tuple)
        else (KnownClip(normalised_latents(known, "known frames")),)
    )
    for clip in clips:
        if clip.channels != config.out_channels:
            raise BadInput(
                f"The known frames have {clip.channels} latent channels, but the model has "
                f"{config.out_channels}; encode the pictures with the VAE of the model."
            )
    return known_frames.merge(clip.place(fps) for clip in clips)


def check_end(known: known_frames.KnownFrames, length: Length) -> None:
    """Refuse (BadInput) pictures and clips that reach beyond the end of the shot."""
    if length.latent_frames is None:
        return
    clips = [frame.frame for frame in known.frames if isinstance(frame.latents, Tensor)]
    last = max(clips, default=0)
    if last >= length.latent_frames:
        raise BadInput(
            f"The known frames reach {frame_count(last + 1) / length.fps:.1f} s and the shot ends "
            f"at {length.seconds:.1f} s; raise `length`, or set an earlier `start` or a smaller "
            "`spacing` in Known Frames, or give fewer pictures."
        )


def check_starts(known: known_frames.KnownFrames, fps: float) -> None:
    """Refuse a video of which the shot would show nothing, since it ends before."""
    shown = known.sources
    for late in known.beyond_end:
        if getattr(late.latents, "source", None) not in shown:
            raise BadInput(
                f"A known video begins at {frame_count(late.frame) / fps:.1f} s, after the end of "
                "the shot; make the shot longer, or set an earlier start."
            )


def normalised_latents(latent: Mapping[str, Any], what: str) -> Tensor:
    """Convert the host's raw LATENT (1, c, f, h, w) to normalised (f, c, h, w) on the CPU.

    Errors call it the latent of the `what`.
    """
    samples = latent["samples"]
    if not samples.numel():
        raise BadInput(
            f"The latent of the {what} is empty, {tuple(samples.shape)}; connect VAE Encode "
            "(Stream) with pictures."
        )
    if samples.ndim != 5 or samples.shape[1] not in FORMATS:
        raise BadInput(
            f"The latent of the {what} is from another kind of model; encode the pictures "
            "with VAE Encode (Stream) and the video model's VAE."
        )
    if samples.shape[0] != 1:
        raise BadInput(
            f"The latent of the {what} is a batch of {samples.shape[0]} videos; use a node for "
            "each video."
        )
    known = samples[0].transpose(0, 1)
    if latent.get("noise_mask") is not None:
        known = known[: _known_count(known, latent["noise_mask"], what)]
    _check_shown(known, what)
    return normalise(known.float()).cpu()


def _known_count(samples: Tensor, mask: Tensor, what: str) -> int:
    """Return how many of the first raw latents (f, c, h, w) a mask (1, 1, f, h, w) keeps.

    The host's Wan22ImageToVideoLatent gives such a mask for a start picture of Wan 2.2 5B: 0 on the
    picture, 1 on flat frames. KSampler hands it on with frames that are made, so with pictures.
    """
    frames = len(samples)
    if mask.ndim == 5 and mask.shape[:3] == (1, 1, frames):
        rows = mask[0, 0].flatten(1)
        count = int((rows[:, 0] == 0).sum())
        is_flat = bool((samples[count:] == samples[count:, :, :1, :1]).all())
        if count and not rows[:count].any() and bool((rows[count:] == 1).all()) and is_flat:
            return count
    raise BadInput(
        f"The latent of the {what} has a mask, which may only tell a start picture from empty "
        "frames after it; connect VAE Encode (Stream) with pictures."
    )


def _check_shown(samples: Tensor, what: str) -> None:
    """Refuse raw latents (f, c, h, w) that no VAE makes of a picture: NaN, or an empty frame."""
    if not samples.isfinite().all():
        raise BadInput(
            f"The latent of the {what} is not finite: it has NaN or infinity; encode the pictures "
            "in float32 or bfloat16."
        )
    empty = (~samples.flatten(1).any(1)).nonzero().flatten().tolist()
    if not empty:
        return
    part = "The latent" if len(empty) == len(samples) else f"Latent frame {empty[0]}"
    raise BadInput(
        f"{part} of the {what} is empty: all its values are zero, as in an Empty Latent; "
        "connect VAE Encode (Stream) with pictures."
    )


def _inputs() -> list[io.Input]:
    return [
        io.Latent.Input(
            "latent",
            tooltip="From VAE Encode (Stream): a picture or clip of the shot's width and height.",
        ),
        *start_inputs(),
        io.Int.Input(
            "spacing",
            default=1,
            min=1,
            max=MAX_SPACING,
            advanced=True,
            tooltip="Latent frames from one latent of the clip to the next, 1 to "
            f"{MAX_SPACING:,}. 1: the clip as it is. More leaves gaps for the model to fill.",
        ),
        level_input(),
        sockets.KnownFrames.Input(
            "known_frames", optional=True, tooltip="Other known frames to add to."
        ),
        ahead_input(),
    ]


def start_inputs() -> list[io.Input]:
    """Build the widgets for the start of a clip."""
    return [
        io.Float.Input(
            "start",
            default=0.0,
            min=0.0,
            max=float(MAX_SECONDS * 100),
            step=0.01,
            tooltip="Start time in the shot, in seconds (or frames: `start_unit`), 0 to "
            f"{MAX_SECONDS * 100:,}; rounded to a latent frame (4 frames of video).",
        ),
        io.Combo.Input(
            "start_unit",
            options=[SECONDS, FRAMES],
            default=SECONDS,
            advanced=True,
            tooltip="Unit of `start`: seconds, or frames of video.",
        ),
    ]


def level_input() -> io.Input:
    """Build the widget for how much of a clip is redrawn."""
    return io.Float.Input(
        "level",
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="How much the prompt redraws: the noise level that the frames start from, 0 to 1. "
        "0 keeps them unchanged (a first picture, a clip to continue). 0.5 to 0.9 keeps layout and "
        "motion (video to video). 1 keeps nothing.",
    )


def ahead_input() -> io.Input:
    """Build the widget for how early a clip is visible."""
    return io.Int.Input(
        "ahead",
        optional=True,
        default=0,
        min=0,
        max=MAX_AHEAD,
        advanced=True,
        tooltip="How many latent frames ahead the model sees these frames coming, 0 to "
        f"{MAX_AHEAD:,}. 0: only within their own chunk. Models trained to look ahead then move "
        "smoothly toward them; others, like the demo, hardly use it.",
    )
