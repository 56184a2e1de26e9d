"""Places of tokens in the world: columns that move with the camera.

Scenery that returns lies in another column of the picture than when it left. Here the columns of
half of the heads are counted from a fixed place in the world, so that what was seen there has the
same column whenever it is seen. The other heads count from the picture's left edge: the ball and
the sun do not stay where they are in the world.

Queries and keys are turned before keys are kept, by the rotary embedding's own angles for columns
(`attention/rope.py`). Turns add up, so that any cache that rotates keys by place in the picture
gives keys by place in the world. Only differences of places count.

The slowest of these angles hardly change over a picture's width. All heads turn them further, by a
whole turn or a part of one for each column that the camera passes. So a head can tell two frames
apart whose cameras differ by less than a column, which decides what a token's pixels show.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...attention.rope import Rotation, by_angles, column_frequencies, rotate
from ...machine.uploads import upload
from ...machine.wide_numbers import computes_float64
from ..config import DiTConfig
from ..hooks import Hooks
from .action import Linear, add_action_layers, pan_hooks, pan_speeds
from .frames import CameraFrames

COLUMNS_PER_FRAME = 0.25
"""Tokens of 16 pixels that the demo's camera passes in a latent frame of 4 pixel frames."""
PICTURE_TURNS = (1.0, 0.5, 0.25)
"""Turns per column of the last pairs of heads that count from the picture's edge."""
WORLD_TURNS = (1.0, 0.5)
"""Turns per column, beside the rotary embedding's own, of the last pairs of the other heads."""
CPU = torch.device("cpu")


def add_column_layers(tree: Any, config: DiTConfig, linear: Linear) -> None:
    """Add the layers of an action embedding, and how columns move, to a module tree.

    `world_columns` (1,) is how many token columns the camera passes in a latent frame at full pan.
    `world_turns` (2, p) are the further turns per column of pairs that depend on the column: those
    of the picture's heads, then those of the world's.
    """
    add_action_layers(tree, config, linear)
    tree.world_columns = nn.Parameter(torch.tensor([COLUMNS_PER_FRAME]), requires_grad=False)
    tree.world_turns = nn.Parameter(column_turns(config.head_dim), requires_grad=False)


def column_turns(head_dim: int, share: float = 1.0) -> Tensor:
    """The further turns per column (2, p) of a model, or a `share` of them; see `world_turns`."""
    pairs = len(column_frequencies(head_dim))
    rows = ((0.0,) * pairs + turns for turns in (PICTURE_TURNS, WORLD_TURNS))
    return share * torch.tensor([row[-pairs:] for row in rows])


def column_hooks(tree: Any, camera: CameraFrames) -> Hooks:
    """The pan of every latent frame, and its tokens' columns in the world."""
    return world_hooks(tree, pan_speeds(camera)[None], camera.travel[None])


def max_values_per_token(config: DiTConfig) -> int:
    """Cosine and sine of every channel of a token."""
    return 2 * config.dim


def world_hooks(tree: Any, action: Tensor, travel: Tensor) -> Hooks:
    """The hooks of pans (b, f), -1 to 1, and of cameras that came `travel` (b, f).

    Travel counts latent frames at full pan, right positive, from any fixed place.
    """
    place = _place_of_angles(tree.world_columns.device)
    passed = tree.world_columns.detach().to(place).double()
    columns = upload(travel.double(), place) * passed
    own = upload(column_frequencies(tree.dim // tree.num_heads), place)
    further = 2 * math.pi * tree.world_turns.detach().to(place).double()
    angles = torch.stack([further[0], own + further[1]])  # (2, p) radians per column
    turns = by_angles(columns[..., None, None] * angles, place)
    return pan_hooks(tree, action).then(Hooks(places=(WorldTurn(turns),)))


def _place_of_angles(device: torch.device) -> torch.device:
    """Where to compute in float64: beside the model, which then waits for nothing, if it can."""
    return device if computes_float64(device) else CPU


class WorldTurn:
    """The turn of a chunk's frames by their camera, `turns` (b, f, 2, w).

    Each layer turns its queries and keys, so what tokens and heads take is kept on the device.
    """

    def __init__(self, turns: Rotation) -> None:
        self._turns = turns
        self._latest: tuple[tuple[object, ...], Rotation] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Turn queries or keys x (b, f s, n, d)."""
        key = x.shape[1:], x.device
        if self._latest is None or self._latest[0] != key:
            cos, sin = (upload(part, x.device) for part in (self._turns.cos, self._turns.sin))
            self._latest = key, of_tokens(Rotation(cos, sin), *x.shape[1:])
        return rotate(x, self._latest[1])


def of_tokens(turns: Rotation, tokens: int, heads: int, head_dim: int) -> Rotation:
    """The rotation (b, f s, n, d) of n `heads` in each of f s `tokens`, by `turns` (b, f, 2, w).

    The first half of the heads takes the first of the two, the others the second. Turns are of the
    last w channels of a head, those of columns; the others stay as they are. A rotation of whole
    heads is one pass over memory, where a part would be cut out and put back.
    """
    frame_tokens, half = tokens // turns.cos.shape[1], heads // 2
    cos, sin = (
        F.pad(
            torch.cat([
                part[:, :, :1].expand(-1, -1, half, -1),
                part[:, :, 1:].expand(-1, -1, heads - half, -1),
            ], 2),
            (head_dim - part.shape[-1], 0), value=stays,
        ).repeat_interleave(frame_tokens, 1)
        for part, stays in ((turns.cos, 1.0), (turns.sin, 0.0))
    )  # fmt: skip
    return Rotation(cos, sin)
