"""Matrix-Game 2's keys and mouse: two attentions along time after attention to the picture.

The first reads the mouse beside the tokens, and each token attends to its own place in other latent
frames. The second attends to the keys of each latent frame. Both see what self-attention sees. Keys
and values of the first lie in the history; those of the second are computed again, since they
follow from the keys that were pressed alone.
Source: zoheth/Matrix-Game 62dedd1 (MIT), `Matrix-Game-2/wan/modules/action_module.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...attention.along_time import attend_in_place, attend_to_frames, turn, turns
from ...attention.projected import ReadFrames
from ...attention.rope import Rotation
from ..action_sizes import ACTION_HEAD_DIM, MODULE, ActionSizes
from ..config import EPS, DiTConfig
from ..hooks import Hooks
from ..image_embedding import LayerNorm
from .actions import MOUSE, PICTURES_READ, FrameActions

AnyLinear = Callable[..., nn.Module]
"""Makes a linear layer from numbers of inputs and outputs; `bias=False` leaves its bias out."""

ActionsOf = Callable[[Sequence[int]], FrameActions]
"""Keys and mouse of latent frames, on the pass's device."""


class ActionModule(nn.Module):
    """One block's layers, with the names that the authors give them."""

    def __init__(self, sizes: ActionSizes, dim: int, linear: AnyLinear) -> None:
        super().__init__()
        embed, width = sizes.embed, sizes.width
        self.heads = sizes.heads
        self.keyboard_embed = nn.Sequential(linear(sizes.keys, embed), nn.SiLU(),
                                            linear(embed, embed))  # fmt: skip
        self.mouse_mlp = nn.Sequential(
            linear(dim + MOUSE * PICTURES_READ, width), nn.GELU(approximate="tanh"),
            linear(width, width), LayerNorm(width),
        )  # fmt: skip
        self.t_qkv = linear(width, 3 * width, bias=False)
        self.proj_mouse = linear(width, dim, bias=False)
        self.mouse_attn_q = linear(dim, width, bias=False)
        self.keyboard_attn_kv = linear(embed * PICTURES_READ, 2 * width, bias=False)
        self.proj_keyboard = linear(width, dim, bias=False)


def add_key_layers(tree: Any, config: DiTConfig, linear: AnyLinear) -> None:
    """Add `action_model` to the first blocks of a module tree."""
    assert config.action is not None
    for block in tree.blocks[: config.action.blocks]:
        setattr(block, MODULE, ActionModule(config.action, config.dim, linear))


@dataclass(frozen=True, slots=True)
class ActionRead:
    """What some batch rows of a pass read: the frames of the history, keys and mouse, and turns.

    `actions` and `turns` are those of past frames, then of the active ones.
    """

    frames: ReadFrames
    actions: FrameActions
    turns: Rotation

    @property
    def past(self) -> int:
        """Latent frames of the history."""
        return len(self.frames.past)


def open_read(frames: ReadFrames, actions: ActionsOf) -> ActionRead:
    """Look up keys and mouse of all frames, and their turns counted from the first active one."""
    numbers = (*frames.past, *frames.active)
    of_frames, first = actions(numbers), frames.active[0]
    return ActionRead(
        frames, of_frames, turns([at - first for at in numbers], of_frames.keys.device)
    )


class ActionLayers:
    """The hook of a pass of a model with the sizes of `config`, for `reads` of batch rows."""

    def __init__(
        self, tree: Any, config: DiTConfig, reads: Sequence[tuple[int, ActionRead]]
    ) -> None:
        assert config.action is not None
        self._tree, self._reads = tree, reads
        self._layers, self._blocks = config.num_layers, config.action.blocks

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Change tokens x (b, f, s, c); keys and values (b, f s, n, d) of the mouse's attention."""
        if layer >= self._blocks:
            return x, None
        module = getattr(self._tree.blocks[layer], MODULE)
        rows = x.split([count for count, _ in self._reads])
        parts = [
            self._of(module, layer, row, read)
            for row, (_, read) in zip(rows, self._reads, strict=True)
        ]
        if len(parts) == 1:
            return parts[0]
        keys, values = (torch.cat([kv[i] for _, kv in parts]) for i in (0, 1))
        return torch.cat([tokens for tokens, _ in parts]), (keys, values)

    def _of(
        self, module: Any, layer: int, x: Tensor, read: ActionRead
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        past = read.frames.keys_values(self._layers + layer) if read.past else None
        x, keys_values = follow_mouse(module, x, read, past)
        return follow_keys(module, x, read), keys_values


def follow_mouse(
    module: Any, x: Tensor, read: ActionRead, past: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Tokens x (b, f, s, c) after the mouse's attention, and its keys and values (b, f s, n, d).

    `past` are those of the history, without positions.
    """
    b, f, s, _ = x.shape
    mouse = read.actions.mouse[read.past :].to(x.dtype)[None, :, None].expand(b, f, s, -1)
    mixed = module.t_qkv(module.mouse_mlp(torch.cat([x, mouse], -1)))
    q, k, v = mixed.unflatten(-1, (3, module.heads, ACTION_HEAD_DIM)).unbind(-3)
    q, k = unit(q), unit(k)  # (b, f, s, n, d)
    own = k.flatten(1, 2), v.flatten(1, 2)
    if past is not None:
        k, v = (torch.cat([old.unflatten(1, (read.past, s)), new], 1)
                for old, new in zip(past, (k, v), strict=True))  # fmt: skip
    out = attend_in_place(turn(q, own_turns(read)), turn(k, read.turns), v, read.frames.visible)
    return x + module.proj_mouse(out.flatten(-2)), own


def follow_keys(module: Any, x: Tensor, read: ActionRead) -> Tensor:
    """Tokens x (b, f, s, c) after attention to the keys of every latent frame."""
    keys = module.keyboard_embed(read.actions.keys.to(x.dtype)).flatten(1)
    mixed = module.keyboard_attn_kv(keys).unflatten(-1, (2, module.heads, ACTION_HEAD_DIM))
    k, v = mixed[None].unbind(2)  # (1, t, n, d)
    q = turn(unit(module.mouse_attn_q(x).unflatten(-1, (module.heads, -1))), own_turns(read))
    k = turn(unit(k).unsqueeze(2), read.turns).squeeze(2)
    k, v = (part.expand(len(x), -1, -1, -1) for part in (k, v))
    out = attend_to_frames(q, k, v, read.frames.visible)
    return x + module.proj_keyboard(out.flatten(-2))  # type: ignore[no-any-return]


def own_turns(read: ActionRead) -> Rotation:
    """The turns of the active frames."""
    return Rotation(read.turns.cos[read.past :], read.turns.sin[read.past :])


def unit(x: Tensor) -> Tensor:
    """Heads x (..., d) of size 1 on average; the norm's weight in the files is not read."""
    x32 = x.float()
    return (x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + EPS)).to(x.dtype)


def key_hooks(
    tree: Any,
    config: DiTConfig,
    runs: Sequence[tuple[int, ReadFrames]],
    actions: ActionsOf,
) -> Hooks:
    """The hooks of a pass whose batch rows read the history as `runs` say."""
    reads = [(count, open_read(frames, actions)) for count, frames in runs]
    return Hooks(after_prompt=(ActionLayers(tree, config, reads),))


def max_values_per_token(config: DiTConfig) -> int:
    """An upper bound of the float32 values per token and batch row, of the history too.

    Keys and values side by side, turned and in order of place, the projections and their copies.
    """
    assert config.action is not None
    return 16 * config.action.width + 4 * config.dim
