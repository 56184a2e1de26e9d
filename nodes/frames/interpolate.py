"""Interpolate Frames (Stream): more frames a second, by a model of the host, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ...model.fingerprint import network_fingerprint
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.joined import JoinedStream, JoinStart, JoinSteps, NextChunk
from ...stream.lazy.newest import Newest, SharedNewest
from ...stream.preview.messages import Plan
from .. import categories, host, sockets
from ..runtime.session import session
from ..schema import build
from .finite import check_finite
from .pictures import frames_input, to_frames
from .source import DerivedFrames, FrameSource, content_key_by

MAX_MULTIPLIER = 16

Between = Callable[[Tensor], Tensor]
"""Pictures (n, 3, H, W), n >= 2, with the same number of new ones between each two."""


class InterpolateStream(io.ComfyNode):
    """FRAMES to FRAMES with a higher frame rate."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeInterpolate",
            display_name="Interpolate Frames (Stream)",
            category=categories.FRAMES,
            description="Puts new frames between the others, with any model of Load Frame "
            "Interpolation Model, chunk by chunk. The speed stays.",
            search_aliases=["rife", "film", "frame interpolation", "smooth video", "60 fps", "vfi"],
            inputs=[
                frames_input("frames", "From VAE Decode (Stream)."),
                sockets.InterpolationModel.Input(
                    "interp_model", tooltip="From Load Frame Interpolation Model (RIFE or FILM)."
                ),
                io.Int.Input(
                    "multiplier",
                    default=2,
                    min=2,
                    max=MAX_MULTIPLIER,
                    tooltip=f"How many times as many frames a second, 2 to {MAX_MULTIPLIER}. 2 "
                    "makes 32 of 16.",
                ),
            ],
            outputs=[sockets.Frames.Output(display_name="frames")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, frames: Tensor | FrameSource, interp_model: Any, multiplier: int
    ) -> io.NodeOutput:
        """Wrap the frames; new ones are made when an output asks for them."""
        frames, node = to_frames(frames), host.interpolator()

        def between(pictures: Tensor) -> Tensor:
            return host.interpolate(node, interp_model, pictures, multiplier)

        smoother = InterpolatedFrames(frames, between, multiplier, interp_model)
        host.show_status(
            cls.hidden.unique_id, f"{frames.fps:g} frames per second become {smoother.fps:g}."
        )
        return io.NodeOutput(smoother)


class InterpolatedFrames(DerivedFrames):
    """The frames of `source` with `multiplier` - 1 new ones between each two."""

    def __init__(
        self, source: FrameSource, between: Between, multiplier: int, model: Any = None
    ) -> None:
        stream = JoinedStream([source.chunks], self._start, length=source.chunk_count)
        super().__init__(source, stream)
        self.fps = source.fps * multiplier
        self.width, self.height = source.width, source.height
        self._between, self._multiplier, self._model = between, multiplier, model
        network = network_fingerprint(getattr(model, "model", None))
        self._key = network and f"{network} {multiplier}"
        self._newest = SharedNewest[FrameChunk, FrameChunk]()

    @property
    def frame_total(self) -> int | None:
        total = self.source.frame_total
        return None if total is None else self._place(total - 1) + 1

    @property
    def plan(self) -> Plan:
        """The plan of the source, which makes the frames before interpolation."""
        return replace(self.source.plan, frames=self.frame_total)

    def seed_of(self, frame: int) -> int | None:
        """The seed of the source's frame at this time, or of its next one."""
        return self.source.seed_of(-(-frame // self._multiplier))

    def content_key(self, index: int) -> str | None:
        """The address of the source's chunk, which tells those before it too, and of the model."""
        return content_key_by(self.source.content_key(index), self._key)

    def chunk_of(self, frame: int) -> int | None:
        """The source's chunk with its frame at this time, or with the next one."""
        return self.source.chunk_of(-(-frame // self._multiplier))

    def get_models(self) -> list[Any]:
        """The host asks this of a socket's value: models to keep while the prompt runs."""
        return [*self.source.get_models(), *([self._model] if self._model else [])]

    def _place(self, number: int) -> int:
        """The new number of the source's frame `number`."""
        return number * self._multiplier

    def _start(self, first: int) -> JoinStart[FrameChunk, FrameChunk]:
        outputs_have = [self.source.content_key(first - 1)] if first else []
        before = session.seams.find(outputs_have[0]) if first else None
        steps = self._join(outputs_have, before, self._newest.lend())
        return JoinStart(steps, source_chunk=max(0, first - (before is None)))

    def _join(
        self,
        outputs_have: list[str | None],
        before: Tensor | None,
        newest: Newest[FrameChunk, FrameChunk],
    ) -> JoinSteps[FrameChunk, FrameChunk]:
        """The steps of a reader: each chunk with the frames between it and the one before.

        Of the chunk with the key in `outputs_have`, if there is one, the last frame is `before`,
        (1, 3, H, W). Where the session has lost that, the chunk is made again.
        """
        keys: tuple[str | None, str | None]  # of the last two chunks
        keys = (None, outputs_have[0] if outputs_have else None)
        if outputs_have and before is None:
            passed = yield NextChunk(0)
            if passed is None or self.source.content_key(passed.index) != keys[1]:
                return  # a stop has changed what outputs have, and nothing fits behind that
            before = passed.frames[-1:]
        while (chunk := (yield NextChunk(0))) is not None:
            smooth = newest.of(chunk, partial(self._interpolate, before, chunk))
            before, oldest = chunk.frames[-1:], keys[0]
            keys = keys[1], self.source.content_key(chunk.index)
            session.seams.keep(keys[1], before, instead_of=oldest)
            yield smooth
            del smooth  # before waiting for the next
        for key in keys:
            session.seams.drop(key)

    def _interpolate(self, before: Tensor | None, chunk: FrameChunk) -> FrameChunk:
        seam = [] if before is None else [before]
        pictures = torch.cat([*seam, chunk.frames])
        if len(pictures) == 1:
            return chunk
        frames = self._between(pictures)[len(seam) :]
        first = self._place(chunk.first_frame - 1) + 1 if seam else chunk.first_frame
        check_finite(frames, first, "The interpolation model", "choose another model")
        return replace(chunk, first_frame=first, frames=frames)
