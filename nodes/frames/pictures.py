"""IMAGE as FRAMES: the node Images to Frames, and every socket for FRAMES takes an IMAGE too."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...model.preset import DEMO
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.metrics import Meter
from .. import categories, host, sockets
from ..schema import build
from .source import FrameSource
from .stored import PIECE_FRAMES, StoredFrames

USUAL_FPS = DEMO.fps  # Wan 2.1's
MAX_FPS = 240.0
RGB = 3


class ImagesToFrames(io.ComfyNode):
    """Pictures of any node to frames: IMAGE to FRAMES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeImagesToFrames",
            display_name="Images to Frames",
            category=categories.FRAMES,
            description="Plays pictures of any node as frames, at a rate of your choice. An IMAGE "
            f"that is connected straight to a stream node plays at {USUAL_FPS:g} per second.",
            search_aliases=["image batch to video", "images to stream", "create video"],
            inputs=[
                io.Image.Input("images", tooltip="Pictures in order, all of one size."),
                io.Float.Input(
                    "fps",
                    default=USUAL_FPS,
                    min=0.01,
                    max=MAX_FPS,
                    step=0.01,
                    tooltip=f"Frames per second, 0.01 to {MAX_FPS:g}. The model's is "
                    "16 for Wan 2.1 and 24 for Wan 2.2 5B.",
                ),
            ],
            outputs=[sockets.Frames.Output(display_name="frames")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, images: Tensor, fps: float) -> io.NodeOutput:
        """Wrap the pictures; nothing is copied."""
        frames = PictureFrames(images, fps)
        host.show_status(cls.hidden.unique_id, f"{frames.plan.text}.")
        return io.NodeOutput(frames)


def frames_input(name: str, tooltip: str, *, optional: bool = False) -> io.Input:
    """Build a socket for FRAMES that takes an IMAGE too; the values pass `to_frames`."""
    tooltip = f"{tooltip} Or pictures (IMAGE)."
    return io.MultiType.Input(name, [sockets.Frames, io.Image], optional=optional, tooltip=tooltip)


def to_frames(value: Tensor | FrameSource) -> FrameSource:
    """The frames of a socket; an IMAGE plays at the usual rate."""
    return all_to_frames([value])[0]


def all_to_frames(values: Sequence[Tensor | FrameSource]) -> list[FrameSource]:
    """The frames of several sockets; an IMAGE plays at the rate of the first other source."""
    rates = [value.fps for value in values if not isinstance(value, Tensor)]
    fps = rates[0] if rates else USUAL_FPS
    return [PictureFrames(value, fps) if isinstance(value, Tensor) else value for value in values]


class PictureFrames(StoredFrames):
    """The pictures of an IMAGE (n, H, W, c): RGB, RGB with alpha, which is dropped, or grey."""

    def __init__(self, images: Tensor, fps: float) -> None:
        if images.ndim != 4 or images.shape[3] not in (1, RGB, RGB + 1):
            raise BadInput(
                f"The IMAGE is a tensor of shape {tuple(images.shape)}, and pictures are (number, "
                "height, width, 3); connect Load Image or another node with an IMAGE."
            )
        if not images.numel():
            raise BadInput("The IMAGE has no pictures; connect at least one.")
        if not images.is_floating_point():
            raise BadInput(
                f"The IMAGE has whole numbers ({images.dtype}), and pictures are numbers from 0 to "
                "1; divide them by their largest value."
            )
        self.images = images
        self._addresses: list[str] = []  # of the first pieces, as far as anybody has asked
        count, height, width, _ = images.shape
        super().__init__((width, height), fps, count, -(-count // PIECE_FRAMES))

    @property
    def digest(self) -> str:
        """A hash of the pictures, in order."""
        content = hashlib.sha256(str((self.width, self.height)).encode())
        for start in range(0, self.frame_total, PIECE_FRAMES):
            content.update(
                self.pictures(start, start + PIECE_FRAMES).contiguous().numpy().tobytes()
            )
        return content.hexdigest()

    def pictures(self, start: int, stop: int) -> Tensor:
        """Pictures (n, 3, H, W) from number `start` up to `stop`, float32 on the CPU."""
        piece = self.images[start:stop, ..., :RGB].movedim(-1, 1)
        wrong = (~piece.isfinite()).flatten(1).any(1).nonzero().flatten()
        if len(wrong):
            raise BadInput(
                f"Picture {start + int(wrong[0])} of the IMAGE, counted from 0, has NaN or "
                "infinity; check the node that makes it."
            )
        return piece.expand(-1, RGB, -1, -1).float().cpu()

    def _address(self, index: int) -> str:
        """A hash of the size, and of all pictures up to the end of piece `index`."""
        start = f"{self.width}x{self.height} {self.images.dtype}"
        for piece in range(len(self._addresses), index + 1):
            before = self._addresses[-1] if piece else start
            content = hashlib.sha256(before.encode())
            content.update(self._bytes(piece * PIECE_FRAMES, (piece + 1) * PIECE_FRAMES))
            self._addresses.append(content.hexdigest())
        return self._addresses[index]

    def _bytes(self, start: int, stop: int) -> memoryview:
        """Pictures as they lie in the IMAGE, without alpha; NaN is told when they are read."""
        piece = self.images[start:stop, ..., :RGB].detach().cpu().contiguous()
        return memoryview(piece.view(torch.uint8).numpy()).cast("B")

    def open_reader(self, first: int) -> PictureReader:
        """Read from picture number `first` on."""
        return PictureReader(self, first)

    def _read(self, first: int) -> Iterator[FrameChunk]:
        self.meter = Meter()
        for index in range(first, self.chunk_count):
            host.check_interrupted()
            start = index * PIECE_FRAMES
            pictures = self.pictures(start, start + PIECE_FRAMES)
            self.meter.chunk_done(frames=len(pictures), latent_frames=0)
            yield FrameChunk(index, start, pictures)


class PictureReader:
    """The pictures of an IMAGE from number `first` on, as a video's reader gives them."""

    def __init__(self, frames: PictureFrames, first: int) -> None:
        self._frames, self._number = frames, first

    def read(self, count: int) -> Tensor | None:
        """The next `count` pictures (n, 3, H, W); fewer at the end, None after it."""
        pictures = self._frames.pictures(self._number, self._number + count)
        self._number += len(pictures)
        return pictures if len(pictures) else None

    def close(self) -> None:
        """Do nothing: no file is open."""


def rate_of(value: Any) -> float | None:
    """The frame rate of the frames of a socket; None for an IMAGE, which has none of its own."""
    return None if isinstance(value, Tensor) else value.fps
