"""Self-Forcing's forward over a KV cache, as published, on our module tree.

After `wan/modules/causal_model.py` of guandeh17/Self-Forcing (33593df), without the parts for
training, pictures and a sliding window. The cache holds rotated keys and is allocated for the whole
shot. Attention is torch's fused kernel, where the original has FlashAttention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...model.config import FREQ_DIM, PATCH, DiTConfig

TABLE = 1024  # rows of the table of rotations


@dataclass(slots=True)
class PlainCache:
    """Keys and values (b, s, n, d) of every layer, and those of the prompt once it is projected."""

    keys: list[Tensor]
    values: list[Tensor]
    prompt: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, config: DiTConfig, tokens: int, like: Tensor) -> PlainCache:
        """A cache with room for so many tokens, in the dtype and on the device of `like`."""
        shape = 1, tokens, config.num_heads, config.head_dim
        keys, values = ([like.new_zeros(shape) for _ in range(config.num_layers)] for _ in range(2))
        return cls(keys, values, [])


class PlainModel:
    """The transformer; call it as the published one.

    Timesteps are embedded in float64, as published, or in another dtype.
    """

    def __init__(self, tree: Any, config: DiTConfig, times: torch.dtype = torch.float64) -> None:
        self.tree, self.config, self.times = tree, config, times
        d = config.head_dim
        parts = d - 4 * (d // 6), 2 * (d // 6), 2 * (d // 6)
        self.weight: Tensor = tree.patch_embedding.weight
        self.freqs = [rope_params(TABLE, part).to(self.weight.device) for part in parts]

    def __call__(
        self, x: Tensor, t: Tensor, context: Tensor, cache: PlainCache, start_frame: int
    ) -> Tensor:
        """The flow of x (1, c, f, h, w) at timesteps t (f), written to the cache as it goes."""
        tree, dim = self.tree, self.config.dim
        x = tree.patch_embedding(x.to(self.weight.dtype)).to(x.dtype)
        f, h, w = x.shape[2:]
        grid = f, h, w
        x = x.flatten(2).transpose(1, 2)
        e = tree.time_embedding(sinusoidal_embedding(FREQ_DIM, t.to(self.times)).type_as(x))
        e0 = tree.time_projection(e).unflatten(1, (6, dim)).unsqueeze(0)  # (1, f, 6, c)
        if not cache.prompt:
            context = tree.text_embedding(context)
        for layer, block in enumerate(tree.blocks):
            x = self._block(block, x, e0, (grid, start_frame, layer, context), cache)
        return self._head(x, e, grid)

    def _block(
        self, block: Any, x: Tensor, e: Tensor, at: tuple[Any, ...], cache: PlainCache
    ) -> Tensor:
        grid, start_frame, layer, context = at
        frames = (grid[0], grid[1] * grid[2])
        m = (block.modulation.unsqueeze(1) + e).chunk(6, dim=2)
        y = (block.norm1(x).unflatten(1, frames) * (1 + m[1]) + m[0]).flatten(1, 2)
        y = self._self_attention(block.self_attn, y, (grid, start_frame, layer), cache)
        x = x + (y.unflatten(1, frames) * m[2]).flatten(1, 2)
        x = x + self._cross_attention(block.cross_attn, block.norm3(x), layer, context, cache)
        y = block.ffn((block.norm2(x).unflatten(1, frames) * (1 + m[4]) + m[3]).flatten(1, 2))
        out: Tensor = x + (y.unflatten(1, frames) * m[5]).flatten(1, 2)
        return out

    def _self_attention(
        self, attention: Any, x: Tensor, at: tuple[Any, ...], cache: PlainCache
    ) -> Tensor:
        grid, start_frame, layer = at
        heads = self.config.num_heads, -1
        q = attention.norm_q(attention.q(x)).unflatten(-1, heads)
        k = attention.norm_k(attention.k(x)).unflatten(-1, heads)
        v = attention.v(x).unflatten(-1, heads)
        start = start_frame * grid[1] * grid[2]
        end = start + x.shape[1]
        keys, values = cache.keys[layer], cache.values[layer]
        keys[:, start:end] = self._rotate(k, grid, start_frame)
        values[:, start:end] = v
        y = attend(self._rotate(q, grid, start_frame), keys[:, :end], values[:, :end])
        out: Tensor = attention.o(y.flatten(2))
        return out

    def _cross_attention(
        self, attention: Any, x: Tensor, layer: int, context: Tensor, cache: PlainCache
    ) -> Tensor:
        heads = self.config.num_heads, -1
        if layer == len(cache.prompt):
            k = attention.norm_k(attention.k(context)).unflatten(-1, heads)
            cache.prompt.append((k, attention.v(context).unflatten(-1, heads)))
        q = attention.norm_q(attention.q(x)).unflatten(-1, heads)
        out: Tensor = attention.o(attend(q, *cache.prompt[layer]).flatten(2))
        return out

    def _rotate(self, x: Tensor, grid: tuple[int, int, int], start_frame: int) -> Tensor:
        f, h, w = grid
        pairs = torch.view_as_complex(x.to(torch.float64).unflatten(-1, (-1, 2)))
        times, rows, columns = self.freqs
        freqs = torch.cat(
            [
                times[start_frame : start_frame + f].view(f, 1, 1, -1).expand(f, h, w, -1),
                rows[:h].view(1, h, 1, -1).expand(f, h, w, -1),
                columns[:w].view(1, 1, w, -1).expand(f, h, w, -1),
            ],
            dim=-1,
        ).reshape(f * h * w, 1, -1)
        return torch.view_as_real(pairs * freqs).flatten(3).type_as(x)

    def _head(self, x: Tensor, e: Tensor, grid: tuple[int, int, int]) -> Tensor:
        head, (f, h, w) = self.tree.head, grid
        shift, scale = (head.modulation.unsqueeze(1) + e.unsqueeze(1).unsqueeze(0)).chunk(2, dim=2)
        x = head.head(head.norm(x).unflatten(1, (f, h * w)) * (1 + scale) + shift)
        x = x.view(1, f, h, w, PATCH, PATCH, self.config.out_channels)
        return torch.einsum("bfhwqrc->bcfhqwr", x).reshape(1, -1, f, h * PATCH, w * PATCH)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of q (b, s, n, d) over k, v (b, t, n, d)."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def rope_params(rows: int, dim: int) -> Tensor:
    """The table (rows, dim / 2) of complex rotations."""
    exponents = torch.arange(0, dim, 2, dtype=torch.float64) / dim
    angles = torch.outer(torch.arange(rows, dtype=torch.float64), 10000.0**-exponents)
    return torch.polar(torch.ones_like(angles), angles)


def sinusoidal_embedding(dim: int, position: Tensor) -> Tensor:
    """Sines and cosines (f, dim) of positions (f), computed in their dtype."""
    half = dim // 2
    exponents = -torch.arange(half, dtype=position.dtype, device=position.device) / half
    angles = torch.outer(position, 10000.0**exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)
