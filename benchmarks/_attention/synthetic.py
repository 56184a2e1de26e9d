"""Keys with the redundancy of real latents: patches of a real Wan 2.1 video, projected at random.

Tokens of one place in successive latent frames, and neighbours in one frame, are as similar as in
the real latents. The queries are the newest frame's keys. The scale of the logits sets how sharp
attention is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...attention.ann.choice import open_buckets
from ...attention.ann.nearest import Exact
from ...attention.kernels.key_selection import KeySelection, select_for_all_heads
from ...attention.kernels.selected import attend_selected
from ...attention.layout import AttentionInputs, attend_inputs
from ...attention.sparse.blocks import build_blocks, choose_blocks
from ...attention.sparse.recall import sampled_recall
from ...attention.storage.shape import CacheShape
from ...attention.temp_cache.cache import MergedCache
from ...attention.temp_cache.policy import REDUNDANT, TempCache
from ...errors import BadInput

HEADS, WIDTH, PATCH = 4, 48, 2
SHARPNESS = 3.0  # standard deviation of logits
ORDERS = ("time", "lsh", "k-means")
DENSITIES = (0.15, 0.3, 0.5)


def real_latents(path: Path) -> Tensor:
    """Read latents (f, c, h, w) from a file whose tensor `latents` is (1, c, f, h, w)."""
    tensor = load_file(path).get("latents")
    if tensor is None or tensor.ndim != 5 or tensor.shape[:2] != (1, 16):
        raise BadInput(f"{path} has no tensor `latents` (1, 16, f, h, w); choose another file.")
    latents: Tensor = tensor[0].float().transpose(0, 1)
    return latents


def activations(latents: Tensor, seed: int) -> Tensor:
    """Return keys (1, f s, n, d) of patches of 2x2 latent pixels; another seed gives values."""
    folded = torch.nn.functional.pixel_unshuffle(latents, PATCH).flatten(2).transpose(1, 2)
    folded = (folded - folded.mean((0, 1))) / folded.std()
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(folded.shape[-1], HEADS * WIDTH, generator=generator)
    projected: Tensor = folded.flatten(0, 1) @ weights / folded.shape[-1] ** 0.5
    by_head: Tensor = projected.unflatten(-1, (HEADS, WIDTH))
    return by_head[None]


def measure_layer(latents: Tensor, seed: int) -> dict[str, float]:
    """Return recall and error of AnnSA by order and density, and errors of TempCache and window."""
    frames, rows, columns = len(latents), latents.shape[-2] // PATCH, latents.shape[-1] // PATCH
    keys, values = activations(latents, 2 * seed), activations(latents, 2 * seed + 1)
    tokens = rows * columns
    q = keys[:, -tokens:].transpose(1, 2)
    q = q * (SHARPNESS / (q @ keys.transpose(1, 2).transpose(2, 3)).std() * WIDTH**0.5)
    k, v = keys.transpose(1, 2).contiguous(), values.transpose(1, 2).contiguous()
    parts = ((slice(0, tokens), 0),)
    inputs = AttentionInputs(q, k, v, None, k.shape[2], parts, range(frames), tokens)
    dense = attend_inputs(inputs)
    shape = CacheShape(1, 1, HEADS, WIDTH, rows, columns, 1)
    figures = {}
    for order in ORDERS:
        for density in DENSITIES:
            read = _read(inputs, shape, order, density)
            out = attend_selected(q, k, v, None, read, 64).view(q.shape)
            figures[f"recall: {order}, density {density:g}"] = float(
                sampled_recall(inputs, read).mean()
            )
            figures[f"error: {order}, density {density:g}"] = _error(out, dense)
    for share in (0.25, 0.5):
        count = round(share * frames)
        newest = slice((frames - count) * tokens, None)
        shorter = AttentionInputs(
            q, k[:, :, newest], v[:, :, newest], None, count * tokens, parts, (), tokens
        )
        figures[f"error: window, {share:.0%}"] = _error(attend_inputs(shorter), dense)
        keys_values = _keep(
            shape, keys, values, TempCache(count, eviction=REDUNDANT, recent_frames=1)
        )
        entries = AttentionInputs(q, *keys_values, None, keys_values[0].shape[2], parts, (), tokens)
        figures[f"error: TempCache, {share:.0%}"] = _error(attend_inputs(entries), dense)
    return figures


def _read(inputs: AttentionInputs, shape: CacheShape, order: str, density: float) -> KeySelection:
    codes = None
    if order != "time":
        buckets = open_buckets(order, shape)
        buckets.learn(0, inputs.keys)
        codes = buckets.assign(0, inputs.keys)
    blocks = build_blocks(inputs.keys, None, torch.arange(inputs.past), codes)
    count = max(1, round(density * blocks.means.shape[2]))
    nothing = blocks.tokens.new_zeros(0)
    return select_for_all_heads(blocks.tokens, choose_blocks(inputs.q, blocks, count), nothing)


def _keep(
    shape: CacheShape, keys: Tensor, values: Tensor, policy: TempCache
) -> tuple[Tensor, Tensor]:
    """Return the un-rotated keys and values (1, n, t, d) that a TempCache keeps."""
    cache = MergedCache(shape, policy, Exact())
    for k, v in zip(keys.split(shape.frame_tokens, 1), values.split(shape.frame_tokens, 1),
                    strict=True):  # fmt: skip
        cache.commit([(k, v)])
    k, v = cache.history(0)
    return k.transpose(1, 2), v.transpose(1, 2)


def _error(out: Tensor, dense: Tensor) -> float:
    """Return the squared error over the variance of dense attention's output."""
    return float(((out - dense) ** 2).mean() / dense.var())
