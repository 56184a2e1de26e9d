"""Everything that a shot needs to know about a MODEL, found once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ...errors import BadInput
from ...model.arithmetic.layers import Layers
from ...model.forward import ModelConfig
from ...model.preset import Preset
from ...model.recurrent.network import RecurrentNetwork
from ...model.vace.module import VaceModule
from ...samplers.denoiser import Denoiser, SecondWeights
from .. import host
from ..attention.attention_spec import SparseAttentionSpec, attention_spec_of
from ..models.channels import check_channels
from ..models.identity import identity
from ..models.model_facts import ModelFacts, facts, product_dtype
from ..models.pair import half_patched, second_model
from ..models.patches import ignored_patches
from ..models.vace import model_sizes, vace_of
from .claim import Claim, SecondClaim
from .compiler import compiler_of
from .lost_blocks import loss_of


@dataclass(frozen=True, slots=True)
class HostDenoiser(Denoiser):
    """One of the host's models, as the engine evaluates it."""

    host: Claim


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A MODEL as the engine runs it.

    `identity` names the model in chunk addresses. `session_only` says why that name is useless
    after a restart, if it is. `attention` comes from an ANN-Sparse Attention node.
    `ignored_patches` are the patches of other nodes that have no effect here. `losses` tell of
    last blocks that are missing. `half_patched` tells of patches on one model of a pair alone.
    `image_branch`: it has layers for CLIP vision features.
    """

    engine: HostDenoiser
    facts: ModelFacts
    identity: str
    session_only: str | None
    attention: SparseAttentionSpec | None
    ignored_patches: tuple[str, ...]
    losses: tuple[str, ...]
    half_patched: str
    image_branch: bool

    @classmethod
    def of(cls, model: Any) -> ResolvedModel:
        """Resolve a MODEL; BadInput where it is not a Wan video model."""
        name, session_only = identity(model)
        second = second_model(model)
        models = [model, *([] if second is None else [second.model])]
        ignored = [name for each in models for name in ignored_patches(each)]
        return cls(
            engine=denoiser(model),
            facts=facts(model),
            identity=name,
            session_only=session_only,
            attention=attention_spec_of(model),
            ignored_patches=tuple(dict.fromkeys(ignored)),
            losses=tuple(dict.fromkeys(filter(None, map(_loss, models)))),
            half_patched=half_patched(model),
            image_branch=all(map(host.has_image_branch, models)),
        )

    @property
    def preset(self) -> Preset:
        """The settings that the model's family was trained with."""
        return self.facts.preset


def denoiser(model: Any) -> HostDenoiser:
    """The engine's view of a MODEL, a pair or not; BadInput where it is not a Wan video model."""
    device, dtype = host.compute_place(model)
    claim = Claim(model, device, product_dtype(model))
    engine = HostDenoiser(
        claim, _config(model), device, dtype, control=_module(model), compiler=compiler_of(model),
        layers=_layers(claim),
    )  # fmt: skip
    second = second_model(model)
    if second is None:
        return engine
    claim.second = SecondClaim(second.model, claim)
    _, second_dtype = host.compute_place(second.model)
    if second_dtype != dtype:
        raise BadInput(
            f"The two models of the pair compute in {dtype} and {second_dtype}; load both with the "
            "same weight_dtype."
        )
    other = Denoiser(
        claim.second, _config(second.model), device, dtype, control=_module(second.model),
        layers=_layers(claim.second),
    )  # fmt: skip
    return replace(engine, second=SecondWeights(other, second.passes))


def _layers(claim: Claim | SecondClaim) -> Layers:
    return Layers(host.is_plain_linear, host.is_plain_sequence, claim.packed)


def _config(model: Any) -> ModelConfig:
    tree = host.module_tree(model)
    if isinstance(tree, RecurrentNetwork):
        return tree.config
    config, vace = model_sizes(model), vace_of(model)
    check_channels(config)
    return config if vace is None else replace(config, control_blocks=vace.blocks)


def _loss(model: Any) -> str:
    is_wan = not isinstance(host.module_tree(model), RecurrentNetwork)
    return loss_of(model, model_sizes(model)) if is_wan else ""


def _module(model: Any) -> VaceModule | None:
    """The module that reads a control video, if the MODEL carries one."""
    vace = vace_of(model)
    return None if vace is None else vace.module
