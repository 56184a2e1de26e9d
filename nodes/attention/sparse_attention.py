"""ANN-Sparse Attention: merged histories, block-sparse attention and merged prompt padding."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from ...attention.ann.choice import AUTO
from ...attention.ann.choice import NAMES as INDEXES
from ...attention.kernels import choice
from .. import categories, host
from ..from_model import FROM_MODEL, TIP
from ..schema import build
from . import advanced_inputs as advanced
from .attention_spec import KEY, PRESETS
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
            description="Reads a long history without looking at all of it. TempCache keeps the "
            "newest of similar tokens, AnnSA reads only the blocks that matter, AnnCA counts "
            "prompt padding once. The preview and the report show what AnnSA did; with ComfyUI's "
            "own samplers, the node shows it.",
            search_aliases=["fast-ar", "sparse attention", "tempcache", "block sparse", "speed"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="A Wan model. For causal models on KSampler, see the help."
                ),
                *label_parts([*_preset(), *_strengths(), *_choices(), *advanced.inputs()]),
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
        f"The model is a {type(model.model.diffusion_model).__name__}, not a Wan model. Attention "
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
            "stores at least 64, 48 or 24 latent frames' worth of entries, 3 of them a sink. "
            "`custom` uses merge_above, density and recall_floor, and the window of KV Cache "
            "Settings.",
        ),
        io.Boolean.Input(
            "temp_cache",
            default=False,
            tooltip="On: the window of KV Cache Settings becomes as many entries per head, taken "
            "from the whole shot. Diffusion-Forcing Sampler only.",
        ),
        io.Float.Input(
            "merge_above",
            default=0.95,
            min=0.5,
            max=1.01,
            step=0.01,
            advanced=True,
            tooltip="With `custom` and `merged`: keys more similar than this are merged (cosine, "
            "no unit, 0.5 to 1.01; 1.01 never merges).",
        ),
    ]


def _strengths() -> list[io.Input]:
    return [
        io.Combo.Input(
            "self_attention",
            options=[WHERE_FASTER, ALWAYS, OFF],
            default=WHERE_FASTER,
            tooltip="`where faster`: sparse where it was measured to be faster on this kind of "
            "device, else dense. `always`: for experiments. `off`: dense.",
        ),
        io.Float.Input(
            "density",
            default=0.3,
            min=0.05,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="With `custom`: share of the history's blocks that a query reads (no unit, "
            "0.05 to 1). Sink, newest frames and its own chunk are always read: of a 21-frame "
            "history, 0.3 reads about half.",
        ),
        io.Float.Input(
            "recall_floor",
            default=0.85,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="With `custom`: a head whose chosen blocks hold less than this share of its "
            "attention in a step is dense for the rest of the chunk (no unit, 0 to 1). The preview "
            "counts them.",
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


def _choices() -> list[io.Input]:
    return [
        io.Combo.Input(
            "keep",
            options=[*EVICTIONS],
            default="what differs",
            advanced=True,
            tooltip="`what differs`: merges nothing; when the cache is full, keys that newer ones "
            "repeat are dropped. `merged`: merges similar keys, then drops the least attended.",
        ),
        io.Combo.Input(
            "kernel",
            options=[*choice.NAMES],
            default=choice.AUTO,
            advanced=True,
            tooltip="What attends to the chosen keys. `auto`: `gathered` (plain PyTorch) until "
            "another is measured to be faster. `flex`: compiled FlexAttention. `triton`: needs an "
            "NVIDIA GPU; also finds nearest keys for `lsh` and `k-means`.",
        ),
        io.Int.Input(
            "reach_frames",
            default=FROM_MODEL,
            min=FROM_MODEL,
            max=4096,
            optional=True,
            advanced=True,
            tooltip="How far back an entry may lie, in latent frames, 1 to 4096; never less than "
            f"the window. {TIP} The demo has 64, others their own window.",
        ),
        io.Combo.Input(
            "index",
            options=[*INDEXES],
            default=AUTO,
            optional=True,
            advanced=True,
            tooltip="With `merged`: how the nearest key is found. `auto`: `exact`, since no "
            "other is faster on every processor. `exact`: compares all keys. `int8`: compares "
            "8-bit codes. `lsh`, `k-means`: search buckets. `faiss`, `faiss ivf`: must be "
            "installed.",
        ),
    ]
