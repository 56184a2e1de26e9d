"""Collect Frames, Frames to VIDEO, Collect Latents: a whole stream as one value of the host's."""

from __future__ import annotations

import torch
from comfy_api.latest import InputImpl, io
from torch import Tensor

from ...errors import BadInput
from ...stream.video.writer import FragmentedMP4, VideoSpec, open_video
from ...units import byte_size
from .. import categories, host, sockets
from ..frames.source import FrameSource
from ..frames.vae import to_latent
from ..runtime.host_rollout import HostRollout
from ..schema import build

WHOLE = "Takes the whole stream before what follows runs."
PLANNED = "Nothing is collected, since the sampler only plans:"


class CollectFrames(io.ComfyNode):
    """FRAMES to IMAGE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeCollectFrames",
            display_name="Collect Frames",
            category=categories.SAVE,
            description=f"All frames as one IMAGE batch in memory, for any other node. {WHOLE} Not "
            "for long shots: it refuses what does not fit into memory.",
            search_aliases=["frames to images", "image batch", "stream to image"],
            inputs=[sockets.Frames.Input("frames", tooltip="From VAE Decode (Stream).")],
            outputs=[io.Image.Output(display_name="images")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, frames: FrameSource) -> io.NodeOutput:
        """Fill one tensor (f, H, W, 3), allocated once."""
        if frames.plan_only:
            host.show_status(cls.hidden.unique_id, f"{PLANNED} {frames.plan.text}")
            return io.NodeOutput(host.nothing_to_give())
        images = _allocate(frames, cls.hidden.unique_id)
        stop = 0
        progress = host.Progress(cls.hidden.unique_id, frames.chunk_count or 0)
        with frames.chunks.subscribe() as reader:
            async for chunk in reader:
                stop = chunk.first_frame + len(chunk.frames)
                images[chunk.first_frame : stop] = chunk.frames.movedim(1, -1)
                progress.advance(chunk.index + 1)
        return io.NodeOutput(images[:stop])


class FramesToVideo(io.ComfyNode):
    """FRAMES to the host's VIDEO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeFramesToVideo",
            display_name="Frames to VIDEO",
            category=categories.SAVE,
            description="All frames as the host's VIDEO, for its own video nodes; kept as a file, "
            f"not in memory. {WHOLE}",
            search_aliases=["create video", "stream to video"],
            inputs=[
                sockets.Frames.Input("frames", tooltip="From VAE Decode (Stream)."),
                io.Int.Input(
                    "crf",
                    default=12,
                    min=0,
                    max=51,
                    tooltip="Quality of the temporary h264 file, 0 (best) to 51. Raise it only if "
                    "the temp folder is small.",
                ),
            ],
            outputs=[io.Video.Output(display_name="video")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, frames: FrameSource, crf: int) -> io.NodeOutput:
        """Write a temporary file and hand it over."""
        if frames.plan_only:
            host.show_status(cls.hidden.unique_id, f"{PLANNED} {frames.plan.text}")
            return io.NodeOutput(host.nothing_to_give())
        file = host.output_file("longtake_video", ".mp4", temporary=True)
        progress = host.Progress(cls.hidden.unique_id, frames.chunk_count or 0)
        spec = VideoSpec(frames.width, frames.height, frames.fps, FragmentedMP4(crf))
        with frames.chunks.subscribe() as reader, open_video(file.path, spec) as video:
            async for chunk in reader:
                video.write(chunk.frames)
                progress.advance(chunk.index + 1)
        return io.NodeOutput(InputImpl.VideoFromFile(str(file.path)))


class CollectLatents(io.ComfyNode):
    """ROLLOUT to LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeCollectLatents",
            display_name="Collect Latents",
            category=categories.SAVE,
            description="All latent frames as one video LATENT, for the host's own VAE Decode and "
            f"latent nodes. {WHOLE}",
            search_aliases=["rollout to latent", "stream to latent", "latent batch"],
            inputs=[
                sockets.Rollout.Input("rollout", tooltip="From the Diffusion-Forcing Sampler.")
            ],
            outputs=[io.Latent.Output(display_name="latent")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, rollout: HostRollout) -> io.NodeOutput:
        """Join the chunks' latents."""
        if rollout.plan_only:
            host.show_status(cls.hidden.unique_id, f"{PLANNED} {rollout.plan.text}")
            return io.NodeOutput(host.nothing_to_give())
        progress = host.Progress(cls.hidden.unique_id, rollout.chunk_count or 0)
        latents = []
        with rollout.chunks.subscribe() as reader:
            async for chunk in reader:
                latents.append(chunk.latents)
                progress.advance(chunk.index + 1)
        return io.NodeOutput({"samples": to_latent(torch.cat(latents))})


def _allocate(frames: FrameSource, node_id: str | None) -> Tensor:
    """Room for all frames (f, H, W, 3); says how much that is, and refuses what does not fit."""
    if frames.frame_total is None:
        raise BadInput(
            "The shot has no end (length is 0), so its frames cannot be collected; give it a "
            "length, or use Save Video (Stream)."
        )
    shape = torch.Size((frames.frame_total, frames.height, frames.width, 3))
    needed = shape.numel() * torch.float32.itemsize
    free = host.usable_memory_bytes(torch.device("cpu"))
    size = f"{shape[0]} frames of {frames.width}x{frames.height} take {byte_size(needed)}"
    if needed > free:
        raise BadInput(
            f"{size} and {byte_size(free)} are free; use Save Video (Stream), or a shorter length."
        )
    host.show_status(node_id, f"{size}.")
    return torch.empty(shape, device=host.runtime_device())
