"""A pack of one node for the tests: the same stream, but every picture says which frame it is."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from comfy_api.latest import ComfyExtension, io

_spec = importlib.util.spec_from_file_location(
    "longtake_numbered_frames",
    Path(__file__).resolve().parents[2] / "support" / "numbered_frames.py",
)
assert _spec is not None and _spec.loader is not None
_numbered = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_numbered)


class NumberFrames(io.ComfyNode):
    """FRAMES to FRAMES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return io.Schema(
            node_id="NumberFrames",
            inputs=[
                io.Custom("FRAMES").Input("frames"),
                io.Float.Input("pace", default=0.0, min=0.0, optional=True),
            ],
            outputs=[io.Custom("FRAMES").Output()],
        )

    @classmethod
    def execute(cls, frames: Any, pace: float = 0.0) -> io.NodeOutput:
        """Decoded as ever, then drawn over; `pace`: seconds more for each chunk, a slower model."""

        class Numbered(type(frames)):
            def _decode(self, first: int) -> Iterator[Any]:
                for chunk in super()._decode(first):
                    time.sleep(pace)
                    count = len(chunk.frames)
                    drawn = _numbered.numbered_frames(
                        chunk.first_frame, count, self.width, self.height
                    )
                    yield replace(chunk, frames=drawn)

        numbered = Numbered(frames.rollout, frames.open_decoder, frames.fps)
        numbered.vae, numbered.album, numbered.estimate = frames.vae, frames.album, frames.estimate
        return io.NodeOutput(numbered)


class NumberingPack(ComfyExtension):
    """The node list."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """One node."""
        return [NumberFrames]


async def comfy_entrypoint() -> NumberingPack:
    """Hand the core the node list."""
    return NumberingPack()
