"""The inputs of ANN-Sparse Attention, and the specification that they make for one MODEL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...attention.kernels import choice
from ...attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from ...errors import BadInput
from ..from_model import FROM_MODEL, set_or_none
from . import advanced_inputs as advanced
from .attention_spec import OF_MODEL, PRESETS, CustomEntries, SparseAttentionSpec

CUSTOM, WHERE_FASTER, ALWAYS, OFF = "custom", "where faster", "always", "off"
MERGE_PADDING, PRUNE = "merge padding", "prune"


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseAttentionRequest:
    """The node's inputs, without the model."""

    preset: str
    temp_cache: bool
    self_attention: str
    prompt_attention: str
    entry_frames: int = FROM_MODEL
    reach_frames: int = FROM_MODEL
    density: float = SparseSelf().density
    recall_floor: float = SparseSelf().recall_floor
    dense_share: float = SparseSelf().dense_share
    dense_layers: str = advanced.FIRST_LAYER
    kernel: str = choice.AUTO
    min_tokens: int = SparseCross().min_tokens

    def spec(self, model: Any) -> SparseAttentionSpec:
        """The specification for `model`; BadInput where its device lacks what is requested."""
        as_window = "for as many as the window"
        entries = set_or_none("entry_frames", self.entry_frames, 1, as_window) or OF_MODEL
        spec = SparseAttentionSpec(
            self.temp_cache,
            Sparsity(self._self_sparsity(model), self._prompt_sparsity),
            PRESETS.get(self.preset) or CustomEntries(entries),
            model.load_device,
            set_or_none("reach_frames", self.reach_frames, 1) or OF_MODEL,
            self.kernel,
        )
        _check_available(spec)
        return spec

    def _self_sparsity(self, model: Any) -> SparseSelf | None:
        layers = advanced.dense_layers(model, self.dense_layers)
        if self.self_attention == OFF:
            return None
        strength = PRESETS.get(self.preset)
        return SparseSelf(
            density=strength.density if strength else self.density,
            recall_floor=strength.recall_floor if strength else self.recall_floor,
            min_keys=0 if self.self_attention == ALWAYS else None,
            dense_share=self.dense_share,
            dense_layers=layers,
            kernel=self.kernel,
        )

    @property
    def _prompt_sparsity(self) -> SparseCross | None:
        if self.prompt_attention == OFF:
            return None
        from_tokens = None if self.prompt_attention == WHERE_FASTER else 0
        return SparseCross(self.prompt_attention == PRUNE, self.min_tokens, from_tokens=from_tokens)


def _check_available(spec: SparseAttentionSpec) -> None:
    """Refuse (BadInput) a kernel that would be used but is not available."""
    reason = choice.kernel_unavailable_reason(spec.kernel, spec.device)
    if spec.attends_with_kernel and reason is not None:
        raise BadInput(
            f"the kernel {spec.kernel} of ANN-Sparse Attention cannot be used on {spec.device}: "
            f"{reason}; choose `auto`."
        )
