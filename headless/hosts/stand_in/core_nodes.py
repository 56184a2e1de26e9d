"""The core nodes that the example workflows use, with the core's behaviour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ....errors import BadInput
from ....stream.video.sound.in_file import FileSound
from ....stream.video.sound.reading import waveform
from . import io_types as io
from .folders import INPUT, get_save_image_path
from .modules import HostState, VideoFromFile
from .ui_types import SavedImages, SavedResult, save_images


class CLIPTextEncode(io.ComfyNode):
    """Encode text to CONDITIONING with the object in the CLIP socket."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLIPTextEncode",
            display_name="CLIP Text Encode (Prompt)",
            inputs=[io.String.Input("text", multiline=True), io.Clip.Input("clip")],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, text: str, clip: Any) -> io.NodeOutput:
        return io.NodeOutput(clip.encode_from_tokens_scheduled(clip.tokenize(text)))


class ImageFromBatch(io.ComfyNode):
    """Take some pictures of an IMAGE; negative indices count from the end."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageFromBatch",
            display_name="Get Image from Batch",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("batch_index", default=0, min=-16384, max=16384),
                io.Int.Input("length", default=1, min=1, max=4096),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: Tensor, batch_index: int, length: int) -> io.NodeOutput:
        first = batch_index + len(image) if batch_index < 0 else batch_index
        first = max(0, min(len(image) - 1, first))
        return io.NodeOutput(image[first : first + length].clone())


class LoadImage(io.ComfyNode):
    """Load a picture as IMAGE and MASK, from `input/` or a path."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadImage",
            display_name="Load Image",
            inputs=[io.String.Input("image")],
            outputs=[io.Image.Output(), io.Custom("MASK").Output()],
        )

    @classmethod
    def execute(cls, image: str) -> io.NodeOutput:
        """Return RGB in [0, 1], upright, and the transparency as mask."""
        try:
            with Image.open(input_file(image)) as opened:
                upright = ImageOps.exif_transpose(opened)
                shown = np.asarray(upright.convert("RGBA"), np.float32) / 255
        except UnidentifiedImageError as error:
            raise BadInput(f"{image} is no picture; choose a PNG, JPEG or WebP file.") from error
        pixels = torch.from_numpy(shown)[None]  # (1, H, W, 4)
        return io.NodeOutput(pixels[..., :3].contiguous(), 1 - pixels[..., 3])


class LoadVideo(io.ComfyNode):
    """Load a video file as VIDEO, from `input/` or a path."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadVideo",
            display_name="Load Video",
            inputs=[io.String.Input("file")],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        """Return the file's name; the consumer reads the file."""
        return io.NodeOutput(VideoFromFile(str(input_file(file))))


class LoadAudio(io.ComfyNode):
    """Load the sound of a file as AUDIO, from `input/` or a path."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadAudio",
            display_name="Load Audio",
            inputs=[io.String.Input("audio")],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, audio: str) -> io.NodeOutput:
        """Return the first sound track (1, channels, n) and its rate, as the core does."""
        sound = FileSound.probe(str(input_file(audio)))
        if sound is None:
            raise BadInput(f"{audio} has no sound; choose a file with a sound track.")
        return io.NodeOutput({"waveform": waveform(sound), "sample_rate": sound.rate})


def input_file(name: str) -> Path:
    """Return the file `name` in `input/` below the working folder, or at that path.

    ComfyUI's page names the folder behind a picture that it has stored: `mask.png [input]`.
    """
    name = name.removesuffix(" [input]")
    paths = [path for path in (INPUT / name, Path(name)) if path.is_file()]
    if not paths:
        raise BadInput(f"{name!r} is neither in the folder input/ nor a path to a file.")
    return paths[0]


def save_image_node(state: HostState) -> type[io.ComfyNode]:
    """Return the Save Image node, writing into the output folder of `state`."""

    class SaveImage(io.ComfyNode):
        """IMAGE to numbered PNG files."""

        @classmethod
        def define_schema(cls) -> io.Schema:
            """Pictures and a file name prefix."""
            return io.Schema(
                node_id="SaveImage",
                display_name="Save Image",
                inputs=[
                    io.Image.Input("images"),
                    io.String.Input("filename_prefix", default="ComfyUI"),
                ],
                is_output_node=True,
            )

        @classmethod
        def execute(cls, images: Tensor, filename_prefix: str) -> io.NodeOutput:
            root = str(state.folders["output"])
            folder, name, first, subfolder, _ = get_save_image_path(filename_prefix, root)
            names = save_images(images, Path(folder), name, first)
            results = [SavedResult(file, subfolder, io.FolderType.output) for file in names]
            return io.NodeOutput(ui=SavedImages(results))

    return SaveImage
