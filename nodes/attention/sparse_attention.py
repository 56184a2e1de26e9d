"""ANN-Sparse Attention: merged histories, block-sparse attention and merged prompt padding."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from ...kinds import kind_of
from .. import categories, host
from ..schema import build
from ..validation import refuses
from . import advanced_inputs as advanced
from .attention_spec import KEY, PRESETS
from .comfy_samplers import report_runs
from .describe import describe_sparsity
from .override import AttentionOverride
from .request import (
    ALWAYS,
    CUSTOM,
    MERGE_PADDING,
    OFF,
    PRUNE,
    WHERE_FASTER,
    SparseAttentionRequest,
)

PARTS = {
    "TempCache": ("temp_cache", "entry_frames", "reach_frames"),
    "AnnSA": (
        "self_attention", "density", "recall_floor", "dense_share", "dense_layers", "kernel",
    ),
    "AnnCA": ("prompt_attention", "min_tokens"),
}  # fmt: skip
"""The inputs of each part; the preset is for all parts."""


@refuses(advanced.read_layers)
class SparseAttentionNode(io.ComfyNode):
    """MODEL to MODEL; our sampler reads what it carries, the host's calls the override."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSparseAttention",
            display_name="ANN-Sparse Attention",
            category=categories.SAMPLE,
            description="Reads a long history without looking at all of it. TempCache keeps the "
            "newest of similar tokens, AnnSA reads only the blocks that matter, AnnCA counts "
            "prompt padding once. The preview and the report show what AnnSA did; with ComfyUI's "
            "own samplers, the node shows it.",
            search_aliases=["fast-ar", "sparse attention", "tempcache", "block sparse", "speed"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="A Wan model. For causal models on KSampler, see the help."
                ),
                *label_parts([*_preset(), *_sparsity(), *advanced.inputs()]),
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: Any, **inputs: Any) -> io.NodeOutput:
        """Clone the model with the settings attached and the host's attention overridden.

        `inputs` are the fields of `SparseAttentionRequest`.
        """
        request, node_id = SparseAttentionRequest(**inputs), cls.hidden.unique_id
        spec = request.spec(model)
        clone = model.clone()
        host.attach(clone, KEY, spec)
        override = host.override_attention(clone, partial(AttentionOverride, spec.sparsity))
        report_runs(clone, KEY, override, node_id)
        text = describe_sparsity(spec.sparsity, spec.device, request.self_attention)
        if text:
            host.show_status(node_id, text, *_warnings(model))
        return io.NodeOutput(clone)


def label_parts(inputs: list[io.Input]) -> list[io.Input]:
    """Prefix the display name of each input with the part that it belongs to."""
    for part, names in PARTS.items():
        for widget in inputs:
            if widget.id in names:
                widget.display_name = f"{part}: {widget.id}"
    return inputs


def _warnings(model: Any) -> list[str]:
    """Say that a MODEL outside the Wan family was never tried."""
    if host.is_wan(model):
        return []
    return [
        f"The model is {kind_of(model.model.diffusion_model)}, not a Wan model. Attention "
        "calls are told apart by Wan's order of them, which is untested here; remove ANN-Sparse "
        "Attention if pictures suffer."
    ]


def _preset() -> list[io.Input]:
    return [
        io.Combo.Input(
            "preset",
            options=[*PRESETS, CUSTOM],
            default="balanced",
            tooltip="`quality` leaves out little, `balanced` more, `fast` most. TempCache then "
            "stores entries for 100, 75 or 38 percent of the latent frames that the model looks "
            "back on, 3 of them a sink. `custom`: the inputs entry_frames, density and "
            "recall_floor.",
        ),
        io.Boolean.Input(
            "temp_cache",
            default=False,
            tooltip="On: entries from the whole shot take the place of the window of KV Cache "
            "Settings. Diffusion-Forcing Sampler only.",
        ),
    ]


def _sparsity() -> list[io.Input]:
    return [
        io.Combo.Input(
            "self_attention",
            options=[WHERE_FASTER, ALWAYS, OFF],
            default=WHERE_FASTER,
            tooltip="`where faster`: sparse where it was measured to be faster on this kind of "
            "device, else dense. `always`: for experiments. `off`: dense.",
        ),
        io.Combo.Input(
            "prompt_attention",
            options=[WHERE_FASTER, MERGE_PADDING, PRUNE, OFF],
            default=WHERE_FASTER,
            tooltip="`merge padding`: exact. `where faster`: the same where it was measured to be "
            "faster, else dense. `prune`: also leaves out words that no query of the chunk is "
            "near. `off`: dense.",
        ),
    ]
