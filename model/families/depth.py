"""How many blocks a model of a published size has, so that one that lost its last is refused.

A file without its last blocks is a whole, shallower model by its tensors, and makes noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..config import DiTConfig
from .folder import declared_depth
from .others import Refused

MAX_BLOCKS = 200  # the largest model has 40
DEPTH = "num_layers"
PUBLISHED = {
    (1536, 8960): ("a Wan model of 1.3B", 30),
    (3072, 14336): ("a Wan model of 5B", 30),
    (5120, 13824): ("a Wan model of 14B", 40),
    (192, 512): ("the demo", 6),
}
"""Title and number of blocks, by the widths of the model and of its feed-forward layers."""


def block_count(names: Iterable[str]) -> int:
    """One more than the highest number of a block; ValueError where no model has so many."""
    last = max(int(name.split(".")[1]) for name in names if name.startswith("blocks."))
    if last >= MAX_BLOCKS:
        raise ValueError(f"it names block {last}")
    return 1 + last


def check_depth(path: Path, config: DiTConfig, transformer: Mapping[str, Any]) -> None:
    """Refuse a file that lacks its last blocks.

    A header or a `config.json` that states the depth knows better: a pruned model is whole.
    """
    finding = lost_blocks(config, stated_depth(path, config, transformer))
    if finding:
        remedy = (
            "download it again, or state dim and num_layers of a pruned model in a config.json "
            "beside it"
        )
        raise Refused(path, f"holds {finding}", remedy)


def lost_blocks(config: DiTConfig, stated: int | None = None) -> str:
    """How many blocks a model has and should have, by what its configuration states if it does.

    Empty where it has enough of them, or nobody knows how many are enough.
    """
    who, depth = PUBLISHED.get((config.dim, config.ffn_dim), ("", 0))
    if stated is not None:
        who, depth = "its configuration", stated
    return f"{config.num_layers} blocks, and {who} has {depth}" if config.num_layers < depth else ""


def is_usual(config: DiTConfig) -> bool:
    """Whether a file of these sizes needs to state no depth."""
    return PUBLISHED.get((config.dim, config.ffn_dim), ("", 0))[1] in (0, config.num_layers)


def stated_depth(path: Path, config: DiTConfig, transformer: Mapping[str, Any]) -> int | None:
    """The depth that the header states, else that in a `config.json` for a model of this width."""
    depth = transformer.get(DEPTH)
    if isinstance(depth, int):
        return depth
    return declared_depth(path, config.dim)
