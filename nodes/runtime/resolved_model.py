"""Everything that a shot needs to know about a MODEL, found once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...model.config import config_from_shapes
from ...model.preset import Preset
from ...samplers.denoiser import Denoiser
from .. import host
from ..attention.attention_spec import SparseAttentionSpec, attention_spec_of
from ..models.channels import check_channels
from ..models.identity import identity
from ..models.model_facts import ModelFacts, facts
from ..models.patches import ignored_patches
from .claim import Claim


@dataclass(frozen=True, slots=True)
class HostDenoiser(Denoiser):
    """One of the host's models, as the engine evaluates it."""

    host: Claim


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A MODEL as the engine runs it.

    `identity` names the model in chunk addresses. `session_only` says why that name is useless
    after a restart, if it is. `attention` comes from an ANN-Sparse Attention node.
    `ignored_patches` are the patches of other nodes that have no effect here.
    """

    engine: HostDenoiser
    facts: ModelFacts
    identity: str
    session_only: str | None
    attention: SparseAttentionSpec | None
    ignored_patches: tuple[str, ...]

    @classmethod
    def of(cls, model: Any) -> ResolvedModel:
        """Resolve a MODEL; BadInput where it is not a Wan video model."""
        name, session_only = identity(model)
        return cls(
            engine=denoiser(model),
            facts=facts(model),
            identity=name,
            session_only=session_only,
            attention=attention_spec_of(model),
            ignored_patches=tuple(ignored_patches(model)),
        )

    @property
    def preset(self) -> Preset:
        """The settings that the model's family was trained with."""
        return self.facts.preset


def denoiser(model: Any) -> HostDenoiser:
    """The engine's view of a MODEL; BadInput where it is not a Wan video model."""
    tree = host.module_tree(model)
    config = config_from_shapes(dict(tree.named_parameters()), tree.num_heads)
    check_channels(config)
    device, dtype = host.compute_place(model)
    return HostDenoiser(Claim(model, device), config, device, dtype)
