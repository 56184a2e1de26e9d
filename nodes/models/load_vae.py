"""Load Wan VAE: any VAE that streams, in a dtype of choice, and whose latents a tiny one wants."""

from __future__ import annotations

import re
from typing import Any

import torch
from comfy_api.latest import io

from ...errors import BadInput
from ...machine.products import convolves_slowly
from ...model.families.names import copies
from ...model.families.others import other
from ...model.families.stated import MARKER, SCALES, WHOLE_NUMBERS
from ...model.files.header import Header
from ...model.files.number_checks import check_numbers
from ...model.files.weights import open_weights
from ...model.vae.latent_format import WAN21
from .. import categories, host
from ..schema import build
from .streaming_vae import RAW_LATENTS, StreamingVAE, TinyVAE, streaming_vae

FOLDERS = ("vae", "vae_approx")
DTYPES = {"auto": None, "fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
AUTO, NORMALISED, RAW = "auto", "normalised", "raw"
FIRST_LAYER = "decoder.1.weight"  # of a tiny VAE
OTHER_MODELS = {"taehv": "HunyuanVideo", "taecvx": "CogVideoX", "taeos": "Open-Sora"}
"""Names that madebyollin/taehv gives tiny VAEs of other models, whose tensors are as taew2_1's."""


class LoadWanVAE(io.ComfyNode):
    """A weights file to VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeLoadVAE",
            display_name="Load Wan VAE",
            category=categories.LOAD,
            description="Loads the Wan 2.1 VAE, LightVAE, the Wan 2.2 VAE, taew2_1, taew2_2 or "
            "lighttae. The VAE is ComfyUI's own; Load VAE works too, unless you need to set the "
            "dtype or the latents of a tiny VAE.",
            search_aliases=["vae", "taehv", "taew2_1", "lighttae", "lightvae", "wan 2.2 vae"],
            inputs=[
                io.Combo.Input(
                    "vae_name",
                    options=[name for folder in FOLDERS for name in host.model_files(folder)],
                    tooltip="A file in models/vae or models/vae_approx: .safetensors, .pt or .pth.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPES),
                    default="auto",
                    advanced=True,
                    tooltip="Format for computing. `auto`: ComfyUI's choice. fp16: half the "
                    "memory, finer than bf16. fp32: exact.",
                ),
                io.Combo.Input(
                    "latents",
                    options=[AUTO, NORMALISED, RAW],
                    default=AUTO,
                    advanced=True,
                    tooltip="For tiny VAEs: taew needs `normalised` latents, lighttae `raw` ones. "
                    "`auto` decides by the file name. If pictures look washed out or burnt, try "
                    "the other.",
                ),
            ],
            outputs=[io.Vae.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, vae_name: str, dtype: str, latents: str) -> io.NodeOutput:
        """Let the host build the VAE, and show its kind."""
        path = host.model_file(_folder_of(vae_name), vae_name)
        weights = open_weights(path)
        _check_kind(weights.header)
        state = {name: weights.read(name) for name in weights.header.tensors}
        check_numbers(state, path)
        vae = host.build_vae(state, DTYPES[dtype], path)
        _check_whole(streaming_vae(vae), weights.header)
        raw = latents == RAW or (latents == AUTO and "lighttae" in path.stem.lower())
        setattr(vae, RAW_LATENTS, raw)
        host.show_status(cls.hidden.unique_id, _describe(streaming_vae(vae), latents == AUTO))
        return io.NodeOutput(vae)

    @classmethod
    def fingerprint_inputs(cls, vae_name: str, **others: Any) -> Any:
        """Change with the file."""
        return host.file_stamp(_folder_of(vae_name), vae_name)


def _folder_of(vae_name: str) -> str:
    return next((f for f in FOLDERS if vae_name in host.model_files(f)), FOLDERS[0])


def _check_kind(header: Header) -> None:
    """Refuse a file that is known as something else than a VAE of Wan."""
    if copies(header.tensors):
        raise BadInput(f"{header.path} is a whole diffusion model and no VAE; choose a Wan VAE.")
    kind = other(header.tensors)
    if kind is not None and not kind.is_vae:
        raise BadInput(f"{header.path} is {kind.title}; choose a Wan VAE.")
    _check_name(header)
    scale = next((name for name in header.tensors if name.endswith((*SCALES, MARKER))), None)
    if scale is not None:
        raise BadInput(
            f"{header.path} is a VAE with scales ({scale}), which ComfyUI would leave out; use an "
            "fp16, bf16 or fp32 file."
        )


def _check_name(header: Header) -> None:
    """Refuse a tiny VAE that only its name tells from Wan 2.1's."""
    name, first = header.path.stem.lower(), header.tensors.get(FIRST_LAYER)
    of_other = re.match("|".join(OTHER_MODELS), name)
    if first is None or first.shape[1:2] != (WAN21.channels,) or not of_other or "wan" in name:
        return
    raise BadInput(
        f"{header.path} is the tiny VAE of {OTHER_MODELS[of_other[0]]} by its name, whose latents "
        "are not Wan's; choose taew2_1, or rename the file if it is that one."
    )


def _check_whole(vae: StreamingVAE, header: Header) -> None:
    """Refuse a file without all tensors: the host would leave those as they happen to be."""
    names = list(vae.tree.state_dict())
    missing = [name for name in names if name not in header.tensors]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BadInput(
            f"{header.path} is no whole VAE of {vae.form.title} latents: it has no {missing[0]}"
            f"{more}; use the unmodified file."
        )
    whole_numbers = [name for name in names if header.tensors[name].dtype in WHOLE_NUMBERS]
    if whole_numbers:
        raise BadInput(
            f"{header.path} holds {whole_numbers[0]} as whole numbers; use an fp16, bf16 or fp32 "
            "file."
        )


def _describe(vae: StreamingVAE, by_name: bool) -> str:
    computes = str(vae.dtype).removeprefix("torch.")
    kind = f"VAE of {vae.form.title} latents ({vae.form.channels} channels)"
    slow = _slowness(vae, computes)
    if not isinstance(vae, TinyVAE):
        return f"A {kind}, computing in {computes}.{slow}"
    wants = RAW if vae.raw else NORMALISED
    reason = " (by the file name)" if by_name else ""
    return f"A tiny {kind}, computing in {computes}; it takes {wants} latents{reason}.{slow}"


def _slowness(vae: StreamingVAE, computes: str) -> str:
    """What a dtype costs on a CPU without instructions for it."""
    if not convolves_slowly(vae.device, vae.dtype):
        return ""
    return (
        f" This CPU takes ten to thirty times as long in {computes} as in float32; set dtype to "
        "fp32."
    )
