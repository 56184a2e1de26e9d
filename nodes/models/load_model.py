"""Load Causal Video Model: any Wan-family file, recognised, renamed, and built by the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ...model.checkpoint import Checkpoint, open_checkpoint
from ...model.families.family import Family
from ...model.families.few_steps import few_step_warning
from ...model.families.folder import stating_files
from ...model.families.recognise import AUTO, EMA, RAW
from ...model.families.table import DEMO_KEY, FAMILIES, FAST_DEMO_KEY
from ...model.files.number_checks import check_numbers
from ...model.recurrent.family import RECURRENT
from ...model.recurrent.file import is_recurrent, load_recurrent
from ...samplers.denoiser import Commits
from .. import categories, host
from ..schema import build
from .model_facts import attach_family, mark_demo, remember
from .pair import pair

FOLDER = "diffusion_models"
DTYPES = {"auto": None, "fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2,
          "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}  # fmt: skip
FROM_MODEL = "from model"
FRAME_RATES = {FROM_MODEL: None, "16": 16.0, "24": 24.0}
ROWS = [row for row in FAMILIES if row.key not in (DEMO_KEY, FAST_DEMO_KEY)]
KEYS = [row.key for row in ROWS]
LISTED = ", ".join(f"{row.key} ({row.title})" for row in ROWS)


class LoadCausalVideoModel(io.ComfyNode):
    """A weights file to MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeLoadModel",
            display_name="Load Causal Video Model",
            category=categories.LOAD,
            description="Loads Self-Forcing, CausVid, LongLive, Rolling Forcing, Causal Forcing, "
            "Krea, Reward Forcing, SkyReels-V2 DF, plain Wan 2.1 and 2.2, and relatives. The MODEL "
            "is ComfyUI's own, so LoRA, fp8 and offload work as usual. Inputs set to `from model` "
            "take the family's published settings.",
            search_aliases=["self forcing", "checkpoint", "unet", "diffusion model", "wan"],
            inputs=_inputs(),
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model_name: str, family: str, weights: str, weight_dtype: str, fps: str
    ) -> io.NodeOutput:
        """Recognise the file, let the host build it, and show what was assumed."""
        path = host.model_file(FOLDER, model_name)
        if is_recurrent(path):
            return io.NodeOutput(_recurrent(path, cls.hidden.unique_id))
        checkpoint = open_checkpoint(path, family, weights).at_rate(FRAME_RATES[fps])
        model, twin = build_model(checkpoint, DTYPES[weight_dtype]), checkpoint.twin
        if twin is not None:
            model = pair(model, build_model(twin, DTYPES[weight_dtype]), Commits())
        _show_family(cls.hidden.unique_id, checkpoint)
        return io.NodeOutput(model)

    @classmethod
    def fingerprint_inputs(cls, model_name: str, **others: Any) -> Any:
        """Change with the file, and with diffusers' configurations around it."""
        return host.file_stamp(FOLDER, model_name, stating_files)


def _recurrent(path: Path, node_id: str | None) -> Any:
    """A MODEL of a recurrent network, which the host does not know but manages."""
    network, config = load_recurrent(path)
    model, preset = host.manage_network(network), RECURRENT.preset
    attach_family(model, RECURRENT, "its header says so")
    mark_demo(model)  # whose VAE made the clips that it was trained on
    sizes = f"{config.num_layers} layers of {config.dim} channels"
    host.show_status(node_id, f"Recurrent model: {sizes}; {preset.note}.")
    return model


def build_model(checkpoint: Checkpoint, dtype: torch.dtype | None = None) -> Any:
    """A MODEL with all layers of the file, also those that the host does not know.

    Its weights are in `dtype`, or as the host chooses (None). The host may read the file again
    later.
    """

    def read() -> dict[str, Tensor]:
        state = checkpoint.state()
        check_numbers(state, checkpoint.recognition.header.path)
        return state

    model = host.build_diffusion_model(read, checkpoint.metadata(), dtype)
    remember(model, checkpoint.recognition)
    return model


def _show_family(node_id: str | None, checkpoint: Checkpoint) -> None:
    recognition, family = checkpoint.recognition, checkpoint.recognition.family
    text = f"{family.title}. {'; '.join(recognition.reasons)}. {licence_and_note(family)}"
    unused = (
        f"{len(recognition.unused)} tensors of the file are not used, for example "
        f"{recognition.unused[0]}."
        if recognition.unused
        else ""
    )
    host.show_status(node_id, text, *filter(None, [few_step_warning(recognition), unused]))


def licence_and_note(family: Family) -> str:
    """The licence of a family, and what its settings do differently."""
    note = f" {family.title}: {family.preset.note}." if family.preset.note else ""
    return f"Licence: {family.licence}.{note}"


def _inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "model_name",
            options=host.model_files(FOLDER),
            tooltip="A file in models/diffusion_models: .safetensors, .pt or .pth; of several "
            "shards, any one. For GGUF, use Unet Loader (GGUF), then Set Model Family.",
        ),
        io.Combo.Input(
            "family",
            options=[AUTO, *KEYS],
            default=AUTO,
            tooltip="The model family. It cannot be read from the weights. `auto` uses the file's "
            f"metadata and name, and shows what it assumed. Others: {LISTED}",
        ),
        io.Combo.Input(
            "weights",
            options=[AUTO, EMA, RAW],
            default=AUTO,
            advanced=True,
            tooltip="For training files with two copies of the weights. `ema`: the averaged copy. "
            "`raw`: the last one. `auto`: the one that the authors use.",
        ),
        io.Combo.Input(
            "weight_dtype",
            options=list(DTYPES),
            default="auto",
            advanced=True,
            tooltip="Format of the weights in memory. `auto`: best if they fit. fp8_e4m3fn, "
            "fp8_e5m2: half the memory, slightly lower quality. bf16, fp16, fp32: force that "
            "format.",
        ),
        io.Combo.Input(
            "fps",
            options=list(FRAME_RATES),
            default=FROM_MODEL,
            advanced=True,
            tooltip="For SkyReels-V2 DF 1.3B only: frames per second, 16 or 24. `from model`: 24. "
            "Other models have one rate and ignore this.",
        ),
    ]
