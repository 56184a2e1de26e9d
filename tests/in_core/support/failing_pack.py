"""A pack for the tests: outputs that read frames beside others and fail in mid-stream or use the
live controls, and a count of what is alive.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from typing import Any, ClassVar

import comfy.model_management as management
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


class FailingStage(io.ComfyNode):
    """Gives frames as they are, and fails at a chunk, as a stage that ran out of memory does."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        frames = io.Custom("FRAMES")
        return io.Schema(
            node_id="FailingStage",
            inputs=[frames.Input("frames"), io.Int.Input("chunk", default=2)],
            outputs=[frames.Output()],
        )

    @classmethod
    def execute(cls, frames: Any, chunk: int) -> io.NodeOutput:
        """Wrap the frames, by the pack's own stream."""
        package = type(frames.controls).__module__.split(".stream.")[0]
        mapped = sys.modules[f"{package}.stream.lazy.mapped"]

        def pass_on(one: Any) -> Any:
            if one.index == chunk:
                raise OSError("the stage's own failure")
            return one

        return io.NodeOutput(StagedFrames(frames, mapped.MappedStream(frames.chunks, pass_on)))


class StagedFrames:
    """Frames with other chunks; all else is the source's."""

    def __init__(self, source: Any, chunks: Any) -> None:
        self._source, self.chunks = source, chunks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class ControllingOutput(io.ComfyNode):
    """Uses the live controls when a chunk has come, or lets the host unload everything; each `once`
    does so a single time in the life of the server. Reports what it saw as text.
    """

    done: ClassVar[set[str]] = set()

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return io.Schema(
            node_id="ControllingOutput",
            is_output_node=True,
            inputs=[
                io.Custom("FRAMES").Input("frames"),
                io.Int.Input("chunk", default=1),
                io.String.Input("control", default="stop"),
                io.String.Input("text", default=""),
                io.String.Input("once", default=""),
            ],
        )

    @classmethod
    async def execute(
        cls, frames: Any, chunk: int, control: str, text: str, once: str
    ) -> io.NodeOutput:
        """Read beside the others."""
        seen: list[str] = []
        async for one in frames.chunks.subscribe():
            if one.index == chunk and once not in cls.done:
                cls.done.add(once)
                seen = cls._use(frames, control, text)
        edits = [edit.line for edit in frames.controls.edits]
        return io.NodeOutput(ui={"text": [frames.controls.state, *edits, *seen]})

    @classmethod
    def _use(cls, frames: Any, control: str, text: str) -> list[str]:
        if control == "unload":
            loaded = [type(patcher.model).__name__ for patcher in management.loaded_models()]
            management.unload_all_models()
            return [*loaded, str(frames.rollout.claim.memory.loaded_size())]
        match control:
            case "free_memory":
                management.free_memory(1e30, management.get_torch_device())
                return [str(frames.rollout.claim.memory.loaded_size())]
            case "budget":
                frames.rollout.spec.hot.budget_bytes = lambda: int(float(text))
                return [str(frames.rollout.spec.hot.bytes), str(len(frames.rollout.spec.hot))]
            case "set_prompt":
                frames.controls.set_prompt(text)
            case "set_guidance":
                frames.controls.set_number("guidance", float(text))
            case _:
                getattr(frames.controls, control)()
        return []


class OtherUser(io.ComfyNode):
    """Uses another MODEL of the same base between chunks, as any other node might: loaded by the
    host with its LoRA, and passed once. Reports a layer's weights as they are then, and as they are
    for the rollout's next chunk.
    """

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return io.Schema(
            node_id="OtherUser",
            is_output_node=True,
            inputs=[io.Custom("FRAMES").Input("frames"), io.Model.Input("model")],
        )

    @classmethod
    async def execute(cls, frames: Any, model: Any) -> io.NodeOutput:
        """Read beside the others."""
        rollouts, others = [], []
        async for _ in frames.chunks.subscribe():
            rollouts.append(cls._sum(frames.rollout.claim.model))
            management.load_models_gpu([model])
            others.append(cls._sum(model))
        return io.NodeOutput(ui={"text": [repr(rollouts), repr(others)]})

    @staticmethod
    def _sum(model: Any) -> float:
        weight = model.model.diffusion_model.blocks[0].self_attn.q.weight
        return float(weight.double().abs().sum())


class LiveObjects(io.ComfyNode):
    """Counts objects of the process by the names of their types."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return io.Schema(
            node_id="LiveObjects",
            is_output_node=True,
            not_idempotent=True,
            inputs=[io.String.Input("names"), io.Int.Input("asked")],
        )

    @classmethod
    def execute(cls, names: str, asked: int) -> io.NodeOutput:
        """Count."""
        gc.collect()
        counts = Counter(type(one).__name__ for one in gc.get_objects())
        return io.NodeOutput(ui={"text": [str(counts[name]) for name in names.split()]})


class FailingPack(ComfyExtension):
    """The node list."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All of them."""
        return [FailingOutput, FailingStage, ControllingOutput, OtherUser, LiveObjects]


async def comfy_entrypoint() -> FailingPack:
    """Hand the core the node list."""
    return FailingPack()
