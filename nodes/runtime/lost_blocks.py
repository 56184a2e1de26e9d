"""A MODEL of another node that lacks its last blocks: such a node makes a shallower model of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import BadInput
from ...model.config import DiTConfig
from ...model.families.depth import lost_blocks, stated_depth
from ...model.families.stated import transformer_config
from ...model.files.weights import open_weights
from .. import host
from ..models.model_facts import KEY


def loss_of(model: Any, config: DiTConfig) -> str:
    """What to do with a model that lacks its last blocks; empty for a whole one.

    This is no refusal: a pruned model of a node that does not tell its file states its depth
    nowhere. Our own loaders have looked already.
    """
    finding = lost_blocks(config)
    if not finding or host.get_attachment(model, KEY) is not None:
        return ""
    path = host.source_file(model)
    finding = lost_blocks(config, None if path is None else _stated(path, config))
    if not finding:
        return ""
    return (
        f"The model has {finding}, so its file may lack the last ones and give noise; download it "
        "again."
    )


def _stated(path: Path, config: DiTConfig) -> int | None:
    """The depth that the file or its folder states."""
    try:
        header = transformer_config(open_weights(path).header)
    except BadInput:  # a container that only its own node opens has no header of ours
        header = {}
    return stated_depth(path, config, header)
