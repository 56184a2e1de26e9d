"""Control Video (Stream): what a model with a VACE module follows, frame by frame."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...model.vace.module import PIXELS
from ...samplers.control.strength import MAX_STRENGTH
from .. import categories, sockets
from ..conditioning.timed_numbers import TimedNumber, read_numbers
from ..frames.decoded import HostFrames
from ..frames.pictures import USUAL_FPS, PictureFrames, frames_input, rate_of, to_frames
from ..frames.source import FrameSource
from ..frames.video_frames import VideoFrames
from ..known.known_video import ReadablePictures
from ..known.rollout_pictures import RolloutPictures
from ..models.streaming_vae import StreamingVAE, streaming_vae
from ..schema import build
from ..validation import refuses
from .control_frames import ControlPictures
from .control_spec import ControlSpec


def _strengths(strength: str) -> tuple[TimedNumber, ...]:
    """The strength over time; BadInput for lines that cannot be read."""
    return read_numbers(strength, "strength", MAX_STRENGTH)


@refuses(_strengths)
class ControlVideoNode(io.ComfyNode):
    """FRAMES or IMAGE, masks and pictures to CONTROL_VIDEO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeControlVideo",
            display_name="Control Video (Stream)",
            category=categories.PROMPT,
            description="Makes a shot follow depth, pose, scribble or layout frames, repaint "
            "inside a mask, or look like a reference picture. Needs Load VACE Module. Frames are "
            "encoded as the shot reaches them, with constant memory.",
            search_aliases=["vace", "controlnet", "depth", "pose", "openpose", "scribble", "canny",
                            "inpaint", "outpaint", "reference to video", "video control"],
            inputs=_inputs(),
            outputs=[sockets.ControlVideo.Output(display_name="control")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        vae: Any,
        strength: str,
        control_frames: Tensor | FrameSource | None = None,
        masks: Tensor | FrameSource | None = None,
        reference: Tensor | None = None,
    ) -> io.NodeOutput:
        """Open the frames; they are encoded when the shot needs them."""
        encoder = streaming_vae(vae)
        if encoder.form.spatial_factor != PIXELS:
            raise BadInput(
                f"VACE needs the Wan 2.1 VAE, and this is one for {encoder.form.title}; connect "
                "Load VAE with the VAE of the model."
            )
        frames = _frames(control_frames, masks, encoder)
        if frames is None and reference is None:
            raise BadInput(
                "Control Video has nothing to follow; connect `control_frames` or `reference`."
            )
        fps = None if control_frames is None else rate_of(control_frames)
        pictures = _pictures(reference)
        return io.NodeOutput(ControlSpec(encoder, frames, pictures, _strengths(strength), fps))


def _pictures(reference: Tensor | None) -> Tensor | None:
    """The reference pictures (n, H, W, 3); BadInput for an IMAGE that holds none."""
    if reference is None:
        return None
    shown = PictureFrames(reference, USUAL_FPS)
    return shown.pictures(0, shown.frame_total).movedim(1, -1)


def _frames(
    pictures: Tensor | FrameSource | None, masks: Tensor | FrameSource | None, vae: StreamingVAE
) -> ControlPictures | None:
    """The control frames with their masks; BadInput where these do not go together."""
    if pictures is None:
        if masks is not None:
            raise BadInput(
                "The masks have no control frames; connect `control_frames` too, for example the "
                "video to repaint."
            )
        return None
    shown = _readable(to_frames(pictures), "control frames")
    if masks is None:
        return ControlPictures(shown, None, vae)
    parts = _readable(_mask_frames(masks), "masks")
    if (parts.width, parts.height) != (shown.width, shown.height):
        raise BadInput(
            f"The masks are {parts.width}x{parts.height} and the control frames "
            f"{shown.width}x{shown.height}; scale the masks to the frames' size."
        )
    if parts.frame_total not in (1, shown.frame_total):
        raise BadInput(
            f"There are {parts.frame_total} masks for {shown.frame_total} control frames; give "
            "one mask for all frames, or one for each."
        )
    return ControlPictures(shown, parts, vae)


def _mask_frames(masks: Tensor | FrameSource) -> FrameSource:
    """A MASK (n, H, W) or (H, W) as grey frames; FRAMES and IMAGE as they are."""
    if not isinstance(masks, Tensor) or masks.ndim > 3:
        return to_frames(masks)
    shown = masks[None] if masks.ndim == 2 else masks
    return PictureFrames(shown[..., None], USUAL_FPS)


def _readable(frames: FrameSource, name: str) -> ReadablePictures:
    if isinstance(frames, VideoFrames | PictureFrames):
        return frames
    if isinstance(frames, HostFrames):
        return RolloutPictures(frames)
    raise BadInput(
        f"The {name} are changed while they are shown, and a control video is read in any order; "
        "connect VAE Decode (Stream) of their shot itself, or save them and connect Video to "
        "Frames (Stream)."
    )


def _inputs() -> list[io.Input]:
    return [
        io.Vae.Input("vae", tooltip="The Wan 2.1 VAE of the model."),
        io.String.Input(
            "strength",
            multiline=True,
            default="1",
            tooltip="How strongly the shot follows, 0 to 10 (no unit): a number, or lines "
            "`SECONDS: number`. `4 (over 2): 0.3` changes to 0.3 over 2 seconds, from second 4 "
            "on. 1: as trained. 0: not at all.",
        ),
        frames_input(
            "control_frames",
            "Depth, pose, scribble, layout, or the video to repaint: from Video to Frames "
            "(Stream), or VAE Decode (Stream) of another shot, in the shot's size and rate.",
            optional=True,
        ),
        io.MultiType.Input(
            "masks",
            [sockets.Mask, sockets.Frames, io.Image],
            optional=True,
            tooltip="Where the frames may change (white); the rest stays (black). One mask for "
            "all frames, or one for each, in the frames' size. Without masks all of a frame is a "
            "guide.",
        ),
        io.Image.Input(
            "reference",
            optional=True,
            tooltip="Pictures that the shot takes its subject or style from, scaled and cut to "
            "the shot's size. Each takes the place of one latent frame (4 frames) of control in "
            "every chunk.",
        ),
    ]
