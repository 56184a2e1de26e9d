"""The inputs of ANN-Sparse Attention, and the specification that they make for one MODEL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...attention.ann.choice import AUTO, index_unavailable_reason
from ...attention.kernels import choice
from ...attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from ...attention.temp_cache.policy import LEAST_ATTENDED, REDUNDANT
from ...errors import BadInput
from ..from_model import FROM_MODEL, set_or_none
from . import advanced_inputs as advanced
from .attention_spec import NEVER, OF_MODEL, PRESETS, SparseAttentionSpec, Strength

CUSTOM, WHERE_FASTER, ALWAYS, OFF = "custom", "where faster", "always", "off"
MERGE_PADDING, PRUNE = "merge padding", "prune"
EVICTIONS = {"what differs": REDUNDANT, "merged": LEAST_ATTENDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseAttentionRequest:
    """The node's inputs, without the model."""

    preset: str
    temp_cache: bool
    merge_above: float
    self_attention: str
    density: float
    recall_floor: float
    prompt_attention: str
    keep: str
    kernel: str
    reach_frames: int = FROM_MODEL
    index: str = AUTO
    merge_floor: float = NEVER
    counts_as: str = advanced.ONE
    head_thresholds: str = ""
    dense_share: float = SparseSelf().dense_share
    dense_layers: str = advanced.FIRST_LAYER
    order: str = SparseSelf().order
    min_tokens: int = SparseCross().min_tokens

    def spec(self, model: Any) -> SparseAttentionSpec:
        """The specification for `model`; BadInput where its device lacks what is requested."""
        spec = SparseAttentionSpec(
            self.temp_cache,
            Sparsity(self._self_sparsity(model), self._prompt_sparsity),
            self._strength,
            model.load_device,
            EVICTIONS[self.keep],
            set_or_none("reach_frames", self.reach_frames, 1) or OF_MODEL,
            self.index,
            self.kernel,
            advanced.merging(model, self.merge_floor, self.counts_as, self.head_thresholds),
        )
        _check_available(spec)
        return spec

    @property
    def _strength(self) -> Strength:
        custom = Strength(self.merge_above, self.density, self.recall_floor)
        return PRESETS.get(self.preset) or custom

    def _self_sparsity(self, model: Any) -> SparseSelf | None:
        layers = advanced.dense_layers(model, self.dense_layers)
        if self.self_attention == OFF:
            return None
        return SparseSelf(
            density=self._strength.density,
            recall_floor=self._strength.recall_floor,
            min_keys=0 if self.self_attention == ALWAYS else None,
            dense_share=self.dense_share,
            dense_layers=layers,
            order=self.order,
            kernel=self.kernel,
        )

    @property
    def _prompt_sparsity(self) -> SparseCross | None:
        if self.prompt_attention == OFF:
            return None
        from_tokens = None if self.prompt_attention == WHERE_FASTER else 0
        return SparseCross(self.prompt_attention == PRUNE, self.min_tokens, from_tokens=from_tokens)


def _check_available(spec: SparseAttentionSpec) -> None:
    """Refuse (BadInput) a kernel or an index that would be used but is not available."""
    device = spec.device
    for what, name, is_used, reason in (
        ("kernel", spec.kernel, spec.attends_with_kernel,
         choice.kernel_unavailable_reason(spec.kernel, device)),
        ("index", spec.index, spec.merges, index_unavailable_reason(spec.index)),
    ):  # fmt: skip
        if is_used and reason is not None:
            raise BadInput(
                f"the {what} {name} of ANN-Sparse Attention cannot be used on {device}: {reason}; "
                "choose `auto`."
            )
