"""From control frames to hints, which are added to a model's tokens after some of its blocks.

The blocks of the module read the control frames and the noisy tokens of one pass together. They
see no history, and their positions begin at 0 in every pass (daydreamlive/scope 68b0f95, which runs
VACE beside causal models without training; written from its equations). Within a pass they are
those of VACE itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from ...attention.dense import attend
from ...attention.rope import rotate, rotation
from ..arithmetic.block import BlockWays, run_block
from ..arithmetic.layers import TORCH_LAYERS
from ..config import PATCH
from ..cross_attention import TextWays, attend_to_text
from ..dit import Cast, TextKV
from ..hooks import NO_HOOKS, Hooks
from .module import VaceModule


@dataclass(frozen=True, slots=True)
class ControlPass:
    """What the module reads in one pass of f latent frames.

    `tokens` (f, s, c) are the projected control frames, `strengths` (f,) factors on their hints.
    `positions` (f) count latent frames. `text` holds the prompt's keys and values for the module's
    own blocks. `rows` and `columns` are the latent picture's.
    """

    tokens: Tensor
    strengths: Tensor
    positions: Sequence[int]
    text: TextKV
    rows: int
    columns: int


class Hints:
    """The hints of one pass of `tree`; a hint is computed after the block that it changes."""

    def __init__(self, tree: Any, module: VaceModule, control: ControlPass, cast: Cast) -> None:
        self._tree, self._module, self._control, self._cast = tree, module, control, cast
        self._stride = len(tree.blocks) // len(module.vace_blocks)
        head_dim = control.tokens.shape[-1] // tree.num_heads
        grid = control.rows // PATCH, control.columns // PATCH
        self._rotation = rotation(control.positions, *grid, head_dim, control.tokens.device)
        self._strengths = control.strengths.to(control.tokens).view(1, -1, 1, 1)
        self._state = self._time = control.tokens  # until the pass begins

    @property
    def hooks(self) -> Hooks:
        """The places in which the module reads and changes the pass."""
        return Hooks(patches=(self._begin,), time=(self._read_time,), after_block=(self._add,))

    def _begin(self, x: Tensor) -> Tensor:
        """Read the model's tokens (b, f, s, c)."""
        self._state = self._control.tokens + x
        return x

    def _read_time(self, e: Tensor) -> Tensor:
        """Read the time embedding (b, f, c)."""
        self._time = self._tree.time_projection(e).float().unflatten(-1, (6, -1))
        return e

    def _add(self, layer: int, x: Tensor) -> Tensor:
        """Add the hint for `layer`, if the module has one, to tokens x (b, f, s, c)."""
        index, rest = divmod(layer, self._stride)
        if rest:
            return x
        block: Any = self._module.vace_blocks[index]
        m = (self._cast(block.modulation).float().unsqueeze(1) + self._time).unsqueeze(3)
        text = self._control.text
        text_ways = TextWays(TORCH_LAYERS.linear)
        to_text = partial(attend_to_text, block.cross_attn, text.of(index), text.runs, text_ways)
        ways = BlockWays(index, self._attend, to_text, NO_HOOKS)
        self._state, _ = run_block(block, self._state, m.unbind(2), self._tree.num_heads, ways)
        hint: Tensor = block.after_proj(self._state)
        return x + hint * self._strengths

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, f s, n, d) of the pass to one another."""
        return attend(rotate(q, self._rotation), rotate(k, self._rotation), v)
