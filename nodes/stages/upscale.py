"""Upscale (Stream): an upscale model of the host, applied chunk by chunk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor
from torch.nn import functional

from ...errors import BadInput
from ...model.fingerprint import fingerprint, network_fingerprint
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.mapped import MappedStream
from ...stream.rollout.out_of_memory import explain_lack, is_out_of_memory
from ...stream.video.spec import MAX_SIDE
from .. import categories, host, sockets
from ..frames.finite import check_finite
from ..frames.pictures import frames_input, to_frames
from ..frames.source import FrameSource, content_key_by
from ..planning.announce import announce
from ..planning.estimate import Stage
from ..schema import build
from .stage_frames import StageFrames, StagePlan
from .stage_plan import plan_stage

MIN_TILE, MAX_TILE = 128, 4096
RGB = 3
REMEDY = "choose a smaller upscale model"


class UpscaleStream(io.ComfyNode):
    """FRAMES to larger FRAMES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeUpscale",
            display_name="Upscale (Stream)",
            category=categories.FRAMES,
            description="Enlarges frames with any model of Load Upscale Model, chunk by chunk, "
            "with constant memory.",
            search_aliases=["super resolution", "esrgan", "enlarge video", "hires", "restore"],
            inputs=[
                frames_input("frames", "From VAE Decode (Stream)."),
                io.UpscaleModel.Input("upscale_model", tooltip="From Load Upscale Model."),
                io.Float.Input(
                    "scale",
                    default=0.0,
                    min=0.0,
                    max=8.0,
                    step=0.25,
                    tooltip="Factor for width and height (no unit, 0 to 8). The model's result is "
                    "resized to it. 0: the model's own factor.",
                ),
                io.Int.Input(
                    "tile",
                    default=512,
                    min=MIN_TILE,
                    max=MAX_TILE,
                    step=32,
                    advanced=True,
                    tooltip=f"Side of the tiles to enlarge in, in pixels, {MIN_TILE} to "
                    f"{MAX_TILE}. Lower it if memory runs out; higher is slightly faster.",
                ),
            ],
            outputs=[sockets.Frames.Output(display_name="frames")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, frames: Tensor | FrameSource, upscale_model: Any, scale: float, tile: int
    ) -> io.NodeOutput:
        """Wrap the frames; chunks are enlarged when an output asks for them."""
        frames = to_frames(frames)
        upscaler = Upscaler(upscale_model, scale, tile, cls.hidden.unique_id)
        larger = UpscaledFrames(frames, upscaler)
        announce(
            cls.hidden.unique_id,
            larger.plan,
            from_model=f"{frames.width}x{frames.height} becomes {larger.width}x{larger.height}. "
            f"{larger.time_text}",
            plan_only=frames.plan_only,
        )
        return io.NodeOutput(larger)


class Upscaler:
    """An upscale model and its target scale; `scale` 0 is the model's own factor."""

    def __init__(self, model: Any, scale: float, tile: int, node_id: str | None) -> None:
        for does, name in (("takes", "input_channels"), ("makes", "output_channels")):
            channels = getattr(model, name, RGB)
            if channels != RGB:
                raise BadInput(
                    f"The upscale model {does} {channels} channels; connect a model for RGB "
                    "pictures."
                )
        self.patcher = host.upscaler_patcher(model)
        self.node_id = node_id
        self._model = model
        self._scale = scale or float(model.scale)
        self._tile = tile
        self.picture_key = self._picture_key()  # with the tile as set, also where it is halved

    def _picture_key(self) -> str | None:
        """What makes the pictures: network and settings; None where no weights name it."""
        network = network_fingerprint(self.patcher.model)
        return network and f"{network} {self._model.scale} {self._scale} {self._tile}"

    @property
    def identity(self) -> str:
        """The model, and all else that the time for a picture depends on."""
        name = fingerprint(self.patcher.model.state_dict())
        return f"{name} {self._scale} {self._tile} {self.patcher.load_device}"

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the enlarged width and height in pixels, even for video codecs."""
        sides = tuple(2 * max(1, round(side * self._scale / 2)) for side in (width, height))
        if max(sides) > MAX_SIDE:
            raise BadInput(
                f"{width}x{height} times {self._scale:g} is {sides[0]}x{sides[1]}, more than the "
                f"{MAX_SIDE} pixels a video can have; lower scale."
            )
        return sides[0], sides[1]

    def working_bytes(self, width: int, height: int, tile: int) -> int:
        """What one tile of a small picture takes."""
        return host.upscaling_bytes(self._model, min(width, tile), min(height, tile))

    def plan(self, source: FrameSource) -> StagePlan:
        """Plan tiles as set, or halved as often as a run that finds no memory halves them."""
        weights = host.weights(self.patcher)
        whole = replace(weights, min_bytes=weights.counted_bytes)  # it is loaded as a whole
        device, tile = self.patcher.load_device, self._tile
        while True:
            working = self.working_bytes(source.width, source.height, tile)
            turns = device.type != "cpu"
            planned = plan_stage(
                source, Stage("upscaling", 0, working, whole, turns, REMEDY), device
            )
            if planned.plan.fits or tile // 2 < MIN_TILE:
                return planned
            tile //= 2

    def enlarge(self, pictures: Tensor, first: int = 0) -> Tensor:
        """Enlarge pictures (n, 3, H, W) in [0, 1]; return float32 on the CPU.

        `first` is the number of the first one in the video.
        """
        width, height = self.size(pictures.shape[3], pictures.shape[2])
        small = pictures.shape[3], pictures.shape[2]
        host.claim_whole(self.patcher, self.working_bytes(*small, self._tile))
        larger = torch.empty(len(pictures), RGB, height, width)
        for number, picture in enumerate(pictures.split(1)):
            host.check_interrupted()
            with explain_lack("while a frame was enlarged", f"generate smaller frames or {REMEDY}"):
                enlarged = self._enlarge_in_tiles(picture.to(self.patcher.load_device))
                check_finite(enlarged, first + number, "The upscale model", "choose another model")
                larger[number] = _resize(enlarged, width, height).clamp(0, 1)
        return larger

    def _enlarge_in_tiles(self, picture: Tensor) -> Tensor:
        """Enlarge one picture (1, 3, H, W); halve the tiles whenever memory runs out."""
        while True:
            try:
                return host.upscale_tiled(self._model, picture, self._tile)
            except (RuntimeError, MemoryError) as error:
                if self._tile // 2 < MIN_TILE or not is_out_of_memory(error):
                    raise
                self._tile //= 2
                host.warn(
                    self.node_id, f"Memory ran out; continuing with tiles of {self._tile} pixels."
                )


class UpscaledFrames(StageFrames):
    """The frames of `source`, enlarged when they are read; decoding is shared."""

    stage_name = "upscaling"

    def __init__(self, source: FrameSource, upscaler: Upscaler) -> None:
        super().__init__(source, MappedStream(source.chunks, self._enlarge))
        self.upscaler, self.stage_plan = upscaler, upscaler.plan(source)
        self.work_key = f"{upscaler.identity} {source.width}x{source.height}"
        self.width, self.height = upscaler.size(source.width, source.height)
        self._progress: host.Progress | None = None

    def get_models(self) -> list[Any]:
        """The host asks this of a socket's value: models to keep while the prompt runs."""
        return [*self.source.get_models(), self.upscaler.patcher]

    def content_key(self, index: int) -> str | None:
        """The address of the small frames and of what enlarges them; None where one is unknown."""
        return content_key_by(self.source.content_key(index), self.upscaler.picture_key)

    def chunk_of(self, frame: int) -> int | None:
        """The source's: each of its chunks is enlarged as one."""
        return self.source.chunk_of(frame)

    def _enlarge(self, chunk: FrameChunk) -> FrameChunk:
        self.begin_work()
        larger = replace(chunk, frames=self.upscaler.enlarge(chunk.frames, chunk.first_frame))
        self.end_work(len(chunk.frames))
        total = self.chunk_count
        self._progress = self._progress or host.Progress(self.upscaler.node_id, total or 0)
        self._progress.advance(chunk.index + 1)
        if chunk.index + 1 == total:
            self._progress.finish()
        return larger


def _resize(picture: Tensor, width: int, height: int) -> Tensor:
    """Resize a picture (1, 3, H, W) without aliasing."""
    if picture.shape[2:] == (height, width):
        return picture
    return functional.interpolate(picture, (height, width), mode="bicubic", antialias=True)
