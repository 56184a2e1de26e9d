"""Places of tokens in the world: columns that move with the camera.

Scenery that returns lies in another column of the picture than when it left. Here the columns of
half of the heads are counted from a fixed place in the world, so that what was seen there has the
same column whenever it is seen. The other heads count from the picture's left edge: the ball and
the sun do not stay where they are in the world.

Queries and keys are turned before keys are kept, by the rotary embedding's own angles for columns
(`attention/rope.py`). Turns add up, so that any cache that rotates keys by place in the picture
gives keys by place in the world. Only differences of places count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...attention.rope import Rotation, column_turns, rotate
from ...uploads import upload
from ..config import DiTConfig
from ..hooks import Hooks
from .action import Linear, add_action_layers, pan_hooks, pan_speeds
from .frames import CameraFrames

COLUMNS_PER_FRAME = 0.25
"""Tokens of 16 pixels that the demo's camera passes in a latent frame of 4 pixel frames."""


def add_column_layers(tree: Any, config: DiTConfig, linear: Linear) -> None:
    """Add the layers of an action embedding, and `world_columns` (1,), to a module tree.

    `world_columns` is how many token columns the camera passes in a latent frame at full pan.
    """
    add_action_layers(tree, config, linear)
    tree.world_columns = nn.Parameter(torch.tensor([COLUMNS_PER_FRAME]), requires_grad=False)


def column_hooks(tree: Any, camera: CameraFrames) -> Hooks:
    """The pan of every latent frame, and its tokens' columns in the world."""
    return world_hooks(tree, pan_speeds(camera)[None], camera.travel[None])


def world_hooks(tree: Any, action: Tensor, travel: Tensor) -> Hooks:
    """The hooks of pans (b, f), -1 to 1, and of cameras that came `travel` (b, f).

    Travel counts latent frames at full pan, right positive, from any fixed place.
    """
    columns = travel.double() * float(tree.world_columns)
    turns = column_turns(columns, tree.dim // tree.num_heads, action.device)
    return pan_hooks(tree, action).then(Hooks(places=(WorldTurn(turns),)))


class WorldTurn:
    """The turn of half of the heads of a chunk's frames; it goes to the device once."""

    def __init__(self, turns: Rotation) -> None:
        self._turns = turns

    def __call__(self, x: Tensor) -> Tensor:
        """Turn queries or keys x (b, f s, n, d)."""
        if self._turns.cos.device != x.device:
            cos, sin = (upload(part, x.device) for part in (self._turns.cos, self._turns.sin))
            self._turns = Rotation(cos, sin)
        return turned(x, self._turns)


def turned(x: Tensor, turns: Rotation) -> Tensor:
    """Turn the second half of the heads of x (b, f s, n, d) by the `turns` (b, f, w) of frames.

    The turns are of the last w channels of a head, which are those of columns.
    """
    width, half = turns.cos.shape[-1], x.shape[2] // 2
    tokens = x.shape[1] // turns.cos.shape[1]
    cos, sin = (
        part.repeat_interleave(tokens, 1).unsqueeze(2) for part in (turns.cos, turns.sin)
    )
    screen, world = x[:, :, :half], x[:, :, half:]
    moved = rotate(world[..., -width:].contiguous(), Rotation(cos, sin))
    return torch.cat([screen, torch.cat([world[..., :-width], moved], -1)], 2)
