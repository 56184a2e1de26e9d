"""Sizes of the layers by which Matrix-Game 2 takes keys and a mouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..attention.storage.shape import CacheShape

ACTION_HEAD_DIM = 64
MODULE = "action_model"
FIRST = f"blocks.0.{MODULE}"


@dataclass(frozen=True, slots=True)
class ActionSizes:
    """The first `blocks` blocks have a module each.

    It takes `keys` keys, embedded in `embed` channels, and attends in `width` channels.
    """

    blocks: int
    keys: int
    embed: int
    width: int

    @property
    def heads(self) -> int:
        """Attention heads of 64 channels."""
        return self.width // ACTION_HEAD_DIM


def action_sizes(shapes: Mapping[str, Sequence[int]]) -> ActionSizes | None:
    """Read the sizes off a model's tensors by name; None for a model without these layers.

    Raises KeyError where a layer misses.
    """
    name = f"{FIRST}.keyboard_embed.0.weight"
    if name not in shapes:
        return None
    embed, keys = shapes[name]
    width = shapes[f"{FIRST}.mouse_mlp.2.bias"][0]
    blocks = sum(name.endswith(f".{MODULE}.t_qkv.weight") for name in shapes)
    return ActionSizes(blocks, keys, embed, width)


def with_beside(shape: CacheShape, sizes: ActionSizes | None) -> CacheShape:
    """The sizes of a KV cache of a model whose layers for a mouse attend to the history too.

    Their keys are turned where they are read, so that they take no room for that in the cache.
    """
    if sizes is None:
        return shape
    beside = replace(
        shape, layers=sizes.blocks, heads=sizes.heads, head_dim=ACTION_HEAD_DIM, chunk_frames=0,
        hold_rotated=False,
    )  # fmt: skip
    return replace(shape, beside=beside)
