"""ANN-Sparse Attention: merged histories, block-sparse attention and merged prompt padding."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from ...attention.ann.choice import AUTO
from ...attention.ann.choice import NAMES as INDEXES
from ...attention.kernels import choice
from .. import categories, host
from ..schema import build
from . import advanced_inputs as advanced
from .attention_spec import KEY, OF_MODEL, PRESETS
from .comfy_samplers import report_runs
from .describe import describe_sparsity
from .override import AttentionOverride
from .request import (
    ALWAYS,
    CUSTOM,
    EVICTIONS,
    MERGE_PADDING,
    OFF,
    PRUNE,
    WHERE_FASTER,
    SparseAttentionRequest,
)

PARTS = {
    "TempCache": (
        "temp_cache", "merge_above", "keep", "reach_frames", "index", "merge_floor", "counts_as",
        "head_thresholds",
    ),
    "AnnSA": (
        "self_attention", "density", "recall_floor", "kernel", "dense_share", "dense_layers",
        "order",
    ),
    "AnnCA": ("prompt_attention", "min_tokens"),
}  # fmt: skip
"""The inputs of each part; the preset is for all parts."""


class SparseAttentionNode(io.ComfyNode):
    """MODEL to MODEL; our sampler reads what it carries, the host's calls the override."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSparseAttention",
            display_name="ANN-Sparse Attention",
            category=categories.SAMPLE,
            description="Attention to long histories without looking at all of it: of tokens "
            "that are alike the newest stays (TempCache), queries read the blocks that matter "
            "(AnnSA), prompt padding counts once (AnnCA). What AnnSA did stands in "
            "the preview and in the report; on ComfyUI's own samplers, what AnnSA and AnnCA did "
            "stands under the node.",
            search_aliases=["fast-ar", "sparse attention", "tempcache", "block sparse", "speed"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A Wan model. What becomes of causal ones on KSampler is in the help.",
                ),
                *name_parts([*_merging(), *_sparse(), *_chosen(), *advanced.inputs()]),
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


def name_parts(inputs: list[io.Input]) -> list[io.Input]:
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
        f"The model is a {type(model.model.diffusion_model).__name__}, not a Wan model. Attention "
        "calls are told apart by Wan's order of them, which is untested here; remove ANN-Sparse "
        "Attention if pictures suffer."
    ]


def _merging() -> list[io.Input]:
    return [
        io.Combo.Input(
            "preset",
            options=[*PRESETS, CUSTOM],
            default="balanced",
            tooltip="`quality` leaves out little, `balanced` more, `fast` much. TempCache then has "
            "entries for at least 64, 48 or 24 latent frames, 3 of them a sink. `custom` uses "
            "merge_above, density and recall_floor below, which are not used otherwise, and the "
            "window of KV Cache Settings as it is.",
        ),
        io.Boolean.Input(
            "temp_cache",
            default=False,
            tooltip="TempCache: the window of KV Cache Settings becomes as many entries for each "
            "head, or as many as the preset asks for, which reach back over all of the shot. True "
            "or false. Diffusion-Forcing Sampler only.",
        ),
        io.Float.Input(
            "merge_above",
            default=0.95,
            min=0.5,
            max=1.01,
            step=0.01,
            tooltip="TempCache, with `custom` and `merged`: the likeness (cosine, no unit, 0.5 to "
            "1.01) above which keys are merged; 1.01 never merges.",
        ),
    ]


def _sparse() -> list[io.Input]:
    return [
        io.Combo.Input(
            "self_attention",
            options=[WHERE_FASTER, ALWAYS, OFF],
            default=WHERE_FASTER,
            tooltip="AnnSA: `where faster` as measured on this kind of device, else dense; "
            "`always` for trying it out; `off`: dense.",
        ),
        io.Float.Input(
            "density",
            default=0.3,
            min=0.05,
            max=1.0,
            step=0.05,
            tooltip="AnnSA, with `custom`: the share of the history that a query reads, no unit, "
            "0.05 to 1.",
        ),
        io.Float.Input(
            "recall_floor",
            default=0.85,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="AnnSA, with `custom`: a head whose blocks hold a smaller share of its "
            "attention than this, no unit, 0 to 1, stays dense for the chunk; counted in the "
            "preview.",
        ),
        io.Combo.Input(
            "prompt_attention",
            options=[WHERE_FASTER, MERGE_PADDING, PRUNE, OFF],
            default=WHERE_FASTER,
            tooltip="AnnCA: `merge padding` is exact; `where faster` does so as measured on this "
            "kind of device, else dense; `prune` also leaves out words that no query of the chunk "
            "is near, on ComfyUI's own samplers of the latent frame where the model tells its "
            "frames; `off`: dense.",
        ),
    ]


def _chosen() -> list[io.Input]:
    return [
        io.Combo.Input(
            "keep",
            options=[*EVICTIONS],
            default="what differs",
            tooltip="TempCache: `what differs` merges nothing, and where there is no room, keys "
            "that newer ones say again give way; `merged` makes like keys one, then those that "
            "are attended to least give way.",
        ),
        io.Combo.Input(
            "kernel",
            options=[*choice.NAMES],
            default=choice.AUTO,
            tooltip="AnnSA: what attends to the chosen keys. `auto` is `gathered`, plain PyTorch, "
            "until another is shown to be faster; `flex` compiles FlexAttention; `triton` needs "
            "an NVIDIA GPU, and finds nearest keys of `lsh` and `k-means`, too.",
        ),
        io.Int.Input(
            "reach_frames",
            default=OF_MODEL,
            min=0,
            max=4096,
            optional=True,
            tooltip="TempCache: how far before the present an old entry may stand, in latent "
            "frames, 1 to 4096, never less than the window. 0 is from the model: as far as it was "
            "trained to look back, 64 for the demo, its own window for others.",
        ),
        io.Combo.Input(
            "index",
            options=[*INDEXES],
            default=AUTO,
            optional=True,
            tooltip="TempCache with `merged`: what finds the nearest key. `auto` goes by size and "
            "device, as measured, and the report says why. `exact` compares all keys, `int8` their "
            "8-bit codes; `lsh` and `k-means` look in buckets; `faiss` and `faiss ivf` must be "
            "installed.",
        ),
    ]
