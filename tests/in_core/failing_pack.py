"""A pack of one node for the tests: an output that reads frames beside others and fails in
mid-stream.
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ComfyExtension, io


class FailingOutput(io.ComfyNode):
    """Fails after so many chunks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return io.Schema(
            node_id="FailingOutput",
            is_output_node=True,
            inputs=[io.Custom("FRAMES").Input("frames"), io.Int.Input("chunks", default=2)],
        )

    @classmethod
    async def execute(cls, frames: Any, chunks: int) -> io.NodeOutput:
        """Read, then raise."""
        async for chunk in frames.chunks.subscribe():
            if chunk.index + 1 == chunks:
                raise OSError("the test's own failure")
        return io.NodeOutput()


class FailingPack(ComfyExtension):
    """The node list."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """One node."""
        return [FailingOutput]


async def comfy_entrypoint() -> FailingPack:
    """Hand the core the node list."""
    return FailingPack()
