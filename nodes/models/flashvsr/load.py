"""Load FlashVSR (Stream): a super-resolution model that streams, from its four files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ....model.checkpoint import Checkpoint
from ....model.families.folder import stating_files
from ....model.files.number_checks import check_numbers
from ....model.flashvsr.file import open_flashvsr
from ....model.flashvsr.parts import (
    DECODER,
    PROJECTOR,
    PROMPT,
    TITLES,
    USUAL_NAMES,
    files_beside,
    find_parts,
)
from ... import categories, host, sockets
from ...schema import build
from ..load_model import DTYPES, FOLDER
from .objects import manage_flashvsr

BESIDE = "beside the model"
CAUSAL = {"1.1": True, "1": False}


class LoadFlashVSR(io.ComfyNode):
    """Four files to one FLASHVSR."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeLoadFlashVSR",
            display_name="Load FlashVSR (Stream)",
            category=categories.LOAD,
            description="Loads FlashVSR, a super-resolution model for Super-Resolution (Stream). "
            "Put its four files into one folder below models/diffusion_models.",
            search_aliases=["flashvsr", "super resolution", "upscale model", "tcdecoder",
                            "lq_proj_in"],
            inputs=_inputs(),
            outputs=[sockets.FlashVSR.Output(display_name="flashvsr")],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(  # noqa: PLR0913
        cls, model_name: str, version: str, projector: str, decoder: str, prompt: str,
        weight_dtype: str,
    ) -> io.NodeOutput:  # fmt: skip
        """Find and read the parts, let the host build the transformer, and show the sizes."""
        named = _named({PROJECTOR: projector, DECODER: decoder, PROMPT: prompt})
        parts = find_parts(host.model_file(FOLDER, model_name), named)
        file = open_flashvsr(parts, causal=CAUSAL[version])
        model = _build(file.transformer, DTYPES[weight_dtype])
        host.show_status(
            cls.hidden.unique_id,
            f"FlashVSR {version}, as chosen: {file.config.num_layers} layers of "
            f"{file.config.dim}, with {parts.projector.name}, {parts.decoder.name} and "
            f"{parts.prompt.name}. Licence: Apache-2.0.",
        )
        return io.NodeOutput(manage_flashvsr(model, file))

    @classmethod
    def fingerprint_inputs(cls, model_name: str, **others: Any) -> Any:
        """Change with the files: each part chosen by name, and those found beside the model."""
        beside = {part for part in TITLES if others.get(part) == BESIDE}

        def read_beside(path: Path) -> list[Path]:
            parts = [part_file for _, part_file in files_beside(path, beside)]
            return [*stating_files(path), *parts]

        return [
            host.file_stamp(FOLDER, model_name, read_beside),
            *(host.file_stamp(FOLDER, str(others.get(part))) for part in TITLES),
        ]


def _build(checkpoint: Checkpoint, dtype: torch.dtype | None) -> object:
    """The transformer as a MODEL; the host may read the file again later."""

    def read() -> dict[str, Tensor]:
        state = checkpoint.state()
        check_numbers(state, checkpoint.recognition.header.path)
        return state

    return host.build_diffusion_model(read, checkpoint.metadata(), dtype)


def _named(choices: Mapping[str, str]) -> dict[str, Path]:
    """The files that were chosen by name."""
    return {part: host.model_file(FOLDER, name) for part, name in choices.items() if name != BESIDE}


def _inputs() -> list[io.Input]:
    files = host.model_files(FOLDER)
    parts = [
        io.Combo.Input(
            part,
            options=[BESIDE, *files],
            default=BESIDE,
            advanced=True,
            tooltip=f"The file with the {TITLES[part]}, usually {USUAL_NAMES[part]}. `{BESIDE}`: "
            "the one in the folder of model_name, known by its tensors.",
        )
        for part in (PROJECTOR, DECODER, PROMPT)
    ]
    return [
        io.Combo.Input(
            "model_name",
            options=files,
            tooltip="FlashVSR's transformer below models/diffusion_models, usually "
            "diffusion_pytorch_model_streaming_dmd.safetensors.",
        ),
        io.Combo.Input(
            "version",
            options=[*CAUSAL],
            default="1.1",
            tooltip="Which FlashVSR the files are: 1.1 or 1. Their tensors do not tell, so take it "
            "from the page of the download.",
        ),
        *parts,
        io.Combo.Input(
            "weight_dtype",
            options=list(DTYPES),
            default="auto",
            advanced=True,
            tooltip="Format of the transformer in memory. `auto`: ComfyUI's choice. fp8_e4m3fn, "
            "fp8_e5m2: half the memory, slightly lower quality. bf16, fp16, fp32: force that "
            "format.",
        ),
    ]
