"""ANN-Sparse Attention: a long history in few entries, attention by blocks, short prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ...attention.ann.choice import AUTO, index_unavailable_reason
from ...attention.ann.choice import NAMES as INDEXES
from ...attention.kernels import choice
from ...attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from ...attention.temp_cache.policy import LEAST_ATTENDED, REDUNDANT
from ...errors import BadInput
from .. import categories, host
from ..from_model import FROM_MODEL, TIP, set_or_none
from ..schema import build
from . import advanced_inputs as details
from .attention_spec import KEY, NEVER, OF_MODEL, PRESETS, SparseAttentionSpec, Strength
from .comfy_samplers import tell_of_runs
from .describe import describe_block_sparsity, describe_prompt_padding
from .override import AttentionOverride

CUSTOM, WHERE_FASTER, ALWAYS, OFF = "custom", "where faster", "always", "off"
MERGE_PADDING, PRUNE = "merge padding", "prune"
EVICTIONS = {"what differs": REDUNDANT, "merged": LEAST_ATTENDED}
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
"""What of the node each widget is for; the preset is for all."""


class SparseAttentionNode(io.ComfyNode):
    """MODEL to MODEL; our sampler reads what it carries, the host's calls the override."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
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
                *label_parts([*_preset(), *_strengths(), *_choices(), *details.inputs()]),
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        model: Any,
        preset: str,
        temp_cache: bool,
        merge_above: float,
        self_attention: str,
        density: float,
        recall_floor: float,
        prompt_attention: str,
        keep: str,
        kernel: str,
        reach_frames: int = FROM_MODEL,
        index: str = AUTO,
        merge_floor: float = NEVER,
        counts_as: str = details.ONE,
        head_thresholds: str = "",
        dense_share: float = SparseSelf().dense_share,
        dense_layers: str = details.FIRST_LAYER,
        order: str = SparseSelf().order,
        min_tokens: int = SparseCross().min_tokens,
    ) -> io.NodeOutput:
        """A clone of the model that carries the settings and overrides the host's attention."""
        chosen = PRESETS.get(preset) or Strength(merge_above, density, recall_floor)
        device = model.load_device
        layers = details.dense_layers(model, dense_layers)
        self_sparsity = _of_self(
            self_attention,
            chosen,
            SparseSelf(dense_share=dense_share, dense_layers=layers, order=order, kernel=kernel),
        )
        sparsity = Sparsity(self_sparsity, _of_prompt(prompt_attention, min_tokens))
        merging = details.merging(model, merge_floor, counts_as, head_thresholds)
        asked = SparseAttentionSpec(
            temp_cache, sparsity, chosen, device, EVICTIONS[keep],
            set_or_none("reach_frames", reach_frames, 1) or OF_MODEL, index, kernel, merging,
        )  # fmt: skip
        _check_usable(asked)
        twin = model.clone()
        host.attach(twin, KEY, asked)
        override = host.override_attention(twin, lambda before: AttentionOverride(sparsity, before))
        tell_of_runs(twin, KEY, override, cls.hidden.unique_id)
        said = _said(self_attention, sparsity, device)
        if said:
            host.say(cls.hidden.unique_id, said, *_problems(model))
        return io.NodeOutput(twin)


def label_parts(inputs: list[io.Input]) -> list[io.Input]:
    """Show each widget under the name of its part."""
    for part, names in PARTS.items():
        for one in inputs:
            if one.id in names:
                one.display_name = f"{part}: {one.id}"
    return inputs


def _of_self(when: str, chosen: Strength, blocks: SparseSelf) -> SparseSelf | None:
    if when == OFF:
        return None
    least = 0 if when == ALWAYS else None
    return replace(blocks, density=chosen.density, recall_floor=chosen.recall_floor, min_keys=least)


def _said(when: str, sparsity: Sparsity, device: Any) -> str:
    said, self_sparsity = list[str](), sparsity.self_sparsity
    if self_sparsity is not None:
        said.append(describe_block_sparsity(self_sparsity, device, when))
    if sparsity.prompt_sparsity is not None:
        said.append(describe_prompt_padding(sparsity.prompt_sparsity, device))
    return " ".join(said)


def _problems(model: Any) -> list[str]:
    """What speaks against its use with a MODEL on the host's own samplers."""
    if host.is_wan(model):
        return []
    return [
        f"The model is a {type(model.model.diffusion_model).__name__}, which is not of the Wan "
        "family: which of its attentions are to itself and which to the prompt is told by Wan's "
        "order of them, and nothing of it was tried. Leave ANN-Sparse Attention out if pictures "
        "suffer."
    ]


def _check_usable(asked: SparseAttentionSpec) -> None:
    """Refuse (BadInput) a kernel or an index that cannot be used and will be."""
    device = asked.device
    for what, name, used, reason in (
        ("kernel", asked.kernel, asked.attends_with_kernel,
         choice.kernel_unavailable_reason(asked.kernel, device)),
        ("index", asked.index, asked.merges, index_unavailable_reason(asked.index)),
    ):  # fmt: skip
        if used and reason is not None:
            raise BadInput(
                f"the {what} {name} of ANN-Sparse Attention cannot be used on {device}: {reason}; "
                "choose `auto`."
            )


def _of_prompt(how: str, min_tokens: int) -> SparseCross | None:
    if how == OFF:
        return None
    least = None if how == WHERE_FASTER else 0
    return SparseCross(how == PRUNE, min_tokens, from_tokens=least)


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
            tooltip="With `custom`: share of the history that a query reads (no unit, 0.05 to 1).",
        ),
        io.Float.Input(
            "recall_floor",
            default=0.85,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="With `custom`: a head whose chosen blocks hold less than this share of its "
            "attention stays dense for the chunk (no unit, 0 to 1). The preview counts them.",
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
            tooltip="With `merged`: how the nearest key is found. `auto`: by size and device, as "
            "measured; the report says why. `exact`: compares all keys. `int8`: compares 8-bit "
            "codes. `lsh`, `k-means`: search buckets. `faiss`, `faiss ivf`: must be installed.",
        ),
    ]
