"""Collect (Stream): a whole stream as one IMAGE, VIDEO or LATENT for other nodes.

The node gives one of the three at a time. If it filled all its outputs, a user who wants a VIDEO
file of a long shot would also hold every frame in memory as an IMAGE.
"""

from __future__ import annotations

import torch
from comfy_api.latest import InputImpl, io
from torch import Tensor

from ...errors import BadInput
from ...stream.video.codecs import H264, Encoding
from ...stream.video.spec import VideoSpec
from ...stream.video.writer import open_video
from ...units import byte_size, count_of
from .. import categories, host, sockets
from ..frames.pictures import to_frames
from ..frames.source import FrameSource
from ..frames.vae import to_latent
from ..runtime.host_rollout import HostRollout
from ..schema import build

IMAGES, VIDEO, LATENT = "images", "video", "latent"
CHOICES = (IMAGES, VIDEO, LATENT)  # in the order of the outputs


class Collect(io.ComfyNode):
    """FRAMES to IMAGE or VIDEO, ROLLOUT to LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeCollect",
            display_name="Collect (Stream)",
            category=categories.SAVE,
            description="Turns a stream into one IMAGE, VIDEO or LATENT for any other node. Takes "
            "the whole stream before the next node runs.",
            search_aliases=["frames to images", "frames to video", "image batch", "create video",
                            "rollout to latent", "collect frames"],
            inputs=_inputs(),
            outputs=[
                io.Image.Output(display_name="images"),
                io.Video.Output(display_name="video"),
                io.Latent.Output(display_name="latent"),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    async def execute(
        cls, stream: Tensor | FrameSource | HostRollout, collect: str = IMAGES, crf: int = 12
    ) -> io.NodeOutput:
        """Fill the chosen output; the two others name the choice that would fill them."""
        stream = stream if isinstance(stream, HostRollout) else to_frames(stream)
        node_id = cls.hidden.unique_id
        if stream.plan_only:
            host.show_status(node_id, f"Dry run, nothing is collected: {stream.plan.text}")
            return io.NodeOutput(*(host.nothing_to_give() for _ in CHOICES))
        value: object
        if isinstance(stream, HostRollout):
            _check_choice("a ROLLOUT", collect, [LATENT], "add VAE Decode (Stream) before it")
            value = await collect_latent(stream, node_id)
        else:
            advice = "connect the sampler's ROLLOUT instead"
            _check_choice("FRAMES", collect, [IMAGES, VIDEO], advice)
            images = collect == IMAGES
            value = await (
                collect_images(stream, node_id) if images else collect_video(stream, crf, node_id)
            )
        return io.NodeOutput(
            *(value if choice == collect else _block_others(choice) for choice in CHOICES)
        )


async def collect_images(frames: FrameSource, node_id: str | None) -> Tensor:
    """Fill one tensor (f, H, W, 3), allocated once."""
    images = _allocate(frames, node_id)
    stop = 0
    progress = host.Progress(node_id, frames.chunk_count or 0)
    with frames.chunks.subscribe() as reader:
        async for chunk in reader:
            stop = chunk.first_frame + len(chunk.frames)
            images[chunk.first_frame : stop] = chunk.frames.movedim(1, -1)
            progress.advance(chunk.index + 1)
    return images[:stop]


async def collect_video(
    frames: FrameSource, crf: int, node_id: str | None
) -> InputImpl.VideoFromFile:
    """Write the frames to a file in the temp folder."""
    file = host.output_file("longtake_video", ".mp4", (frames.width, frames.height), temporary=True)
    progress = host.Progress(node_id, frames.chunk_count or 0)
    spec = VideoSpec(frames.width, frames.height, frames.fps, Encoding(H264, crf))
    with frames.chunks.subscribe() as reader, open_video(file.path, spec) as video:
        async for chunk in reader:
            video.write(chunk.frames)
            progress.advance(chunk.index + 1)
    return InputImpl.VideoFromFile(str(file.path))


async def collect_latent(rollout: HostRollout, node_id: str | None) -> dict[str, Tensor]:
    """Join the latents of all chunks."""
    progress = host.Progress(node_id, rollout.chunk_count or 0)
    latents = []
    with rollout.chunks.subscribe() as reader:
        async for chunk in reader:
            latents.append(chunk.latents)
            progress.advance(chunk.index + 1)
    return {"samples": to_latent(torch.cat(latents))}


def _check_choice(connected: str, collect: str, possible: list[str], advice: str) -> None:
    if collect not in possible:
        choices = " or ".join(f"`{choice}`" for choice in possible)
        raise BadInput(
            f"Collect (Stream) cannot make `{collect}` from {connected}; choose {choices}, or "
            f"{advice}."
        )


def _block_others(choice: str) -> object:
    return host.nothing_to_give(
        f"This output of Collect (Stream) is empty; set `collect` to `{choice}`."
    )


def _allocate(frames: FrameSource, node_id: str | None) -> Tensor:
    """Allocate (f, H, W, 3) for all frames and show the size; refuse what does not fit."""
    if frames.frame_total is None:
        raise BadInput(
            "The shot has no end (length is 0), so its frames cannot be collected; set a length, "
            "or use Save Video (Stream)."
        )
    shape = torch.Size((frames.frame_total, frames.height, frames.width, 3))
    needed = shape.numel() * torch.float32.itemsize
    free = host.usable_memory_bytes(torch.device("cpu"))
    count = count_of(frames.frame_total, "frame")
    size = f"{byte_size(needed)} for {count} of {frames.width}x{frames.height}"
    if needed > free:
        raise BadInput(
            f"The frames need {size}, and {byte_size(free)} are free; use Save Video (Stream), or "
            "a shorter length."
        )
    host.show_status(node_id, f"{size}.")
    return torch.empty(shape, device=host.runtime_device())


def _inputs() -> list[io.Input]:
    return [
        io.MultiType.Input(
            "stream",
            [sockets.Frames, sockets.Rollout, io.Image],
            tooltip="For images and video: frames, from VAE Decode (Stream), or pictures (IMAGE). "
            "For a latent: the rollout, from the sampler.",
        ),
        io.Combo.Input(
            "collect",
            options=[*CHOICES],
            default=IMAGES,
            tooltip="`images`: all frames as one IMAGE batch in memory; refused if they do not "
            "fit. `video`: a ComfyUI VIDEO, stored as a temporary file, for shots of any length. "
            "`latent`: all latent frames as one LATENT.",
        ),
        io.Int.Input(
            "crf",
            default=12,
            min=0,
            max=51,
            advanced=True,
            tooltip="For `video`: quality of the file, 0 (best, largest) to 51 (worst). 12 looks "
            "like the source.",
        ),
    ]
