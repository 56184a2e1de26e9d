"""A MODEL that carries a VACE module, which reads control videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import BadInput
from ...model.config import DiTConfig, config_from_shapes
from ...model.recurrent.network import RecurrentNetwork
from ...model.vace.module import VaceModule
from .. import host

KEY = "longtake.vace"


@dataclass(frozen=True, slots=True)
class VaceAttachment:
    """The module in the host's care: its `patcher`, its number of blocks and its fingerprint."""

    patcher: Any
    blocks: int
    digest: str

    @property
    def module(self) -> VaceModule:
        """The module tree, with official names."""
        tree: VaceModule = self.patcher.model
        return tree


def model_sizes(model: Any) -> DiTConfig:
    """The sizes of a Wan MODEL; BadInput where it is none."""
    tree = host.module_tree(model)
    if isinstance(tree, RecurrentNetwork):
        raise BadInput("The model is recurrent; connect a Wan model to this node.")
    return config_from_shapes(dict(tree.named_parameters()), tree.num_heads)


def with_vace(model: Any, module: VaceModule, blocks: int, digest: str) -> Any:
    """A clone of `model` that carries a module."""
    clone = model.clone()
    patcher = host.manage_beside(module, model)
    host.attach(clone, KEY, VaceAttachment(patcher, blocks, digest))
    return clone


def vace_of(model: Any) -> VaceAttachment | None:
    """The module that a MODEL carries, if it carries one."""
    attachment: VaceAttachment | None = host.get_attachment(model, KEY)
    return attachment
