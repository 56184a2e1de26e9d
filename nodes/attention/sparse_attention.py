"""ANN-Sparse Attention: long histories in so many entries, attention by blocks, short prompts."""

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
                *in_parts([*_merging(), *_sparse(), *_chosen(), *details.inputs()]),
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
        reach_frames: int = OF_MODEL,
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
            temp_cache, sparsity, chosen, device, EVICTIONS[keep], reach_frames, index, kernel,
            merging,
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


def in_parts(inputs: list[io.Input]) -> list[io.Input]:
    """The same, shown under the name of the part that each belongs to: saved workflows know widgets
    by their place, so later ones stand behind, whatever part they are of.
    """
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
