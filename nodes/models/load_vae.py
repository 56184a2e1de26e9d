"""Load Wan VAE: any VAE that streams, in a dtype of choice, and whose latents a tiny one wants."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ...model.checkpoint import finite
from ...model.files.weights import open_weights
from .. import categories, host
from ..schema import build
from .streaming_vae import RAW_LATENTS, StreamingVAE, TinyVAE, streaming_vae

FOLDERS = ("vae", "vae_approx")
DTYPES = {"auto": None, "fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
AUTO, NORMALISED, RAW = "auto", "normalised", "raw"


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
        folder = next((f for f in FOLDERS if vae_name in host.model_files(f)), FOLDERS[0])
        path = host.model_file(folder, vae_name)
        weights = open_weights(path)
        state = {name: weights.read(name) for name in weights.header.tensors}
        finite(state, path)
        vae = host.build_vae(state, DTYPES[dtype])
        raw = latents == RAW or (latents == AUTO and "lighttae" in path.stem.lower())
        setattr(vae, RAW_LATENTS, raw)
        host.show_status(cls.hidden.unique_id, _describe(streaming_vae(vae), latents == AUTO))
        return io.NodeOutput(vae)


def _describe(vae: StreamingVAE, by_name: bool) -> str:
    computes = str(vae.dtype).removeprefix("torch.")
    kind = f"{vae.form.title} latents ({vae.form.channels} channels), computing in {computes}"
    if not isinstance(vae, TinyVAE):
        return f"A VAE of {kind}."
    wants = RAW if vae.raw else NORMALISED
    reason = " (by the file name)" if by_name else ""
    return f"A tiny VAE of {kind}; it takes {wants} latents{reason}."
