"""How much memory a recognised model takes at a picture size: weights, KV cache, VAE state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ...attention.history import planned_bytes
from ...attention.storage.dense import DENSE
from ...attention.storage.shape import CacheShape
from ..action_sizes import with_beside
from ..config import PATCH
from ..files.header import ITEM_BYTES, TensorInfo
from ..preset_cache import preset_cache
from ..vae.wan_state import decoder_state_values
from .quantised import FP8_ROWS
from .recognise import Recognition
from .table import DEMO_KEY, FAST_DEMO_KEY

COMPUTE = torch.bfloat16  # what the host computes in on a GPU, whatever the file stores
FULL_LENGTH = 21  # latent frames of Wan's 81, for a model that keeps all of them
FIVE_B = "ti2v-5b"


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes at one picture size; the KV cache without guidance, which doubles it.

    Of a model that is two, it is the KV cache of both `histories`, beside the weights of one file.
    A twin in the same file counts with its weights.

    `largest_weight_bytes` must be on the card however many other weights wait elsewhere.
    """

    width: int
    height: int
    frame_tokens: int
    weight_bytes: int
    largest_weight_bytes: int
    kv_frame_bytes: int
    kv_bytes: int
    vae_bytes: int
    histories: int = 1


def memory_plan(
    model: Recognition,
    width: int,
    height: int,
    compute: torch.dtype = COMPUTE,
    weight_dtype: torch.dtype | None = None,
) -> MemoryPlan:
    """The plan for pictures of about `width` x `height`, snapped to the model's own grid.

    Weights are loaded in `weight_dtype`, or as stored (None), wide floats in `compute`.
    """
    latent_pixels = 16 if model.family.shape == FIVE_B else 8
    step = latent_pixels * PATCH
    width, height = width // step * step, height // step * step
    rows, columns = height // step, width // step
    config, preset = model.config, model.family.preset
    policy, histories = preset_cache(preset), 2 if preset.boundary else 1
    shape = CacheShape(
        layers=config.num_layers, batch=1, heads=config.num_heads, head_dim=config.head_dim,
        rows=rows, columns=columns, dtype=compute,
        chunk_frames=preset.chunk_frames * max(1, preset.rolling_chunks),
        hold_rotated=not policy.moves_keys,
    )  # fmt: skip
    shape = with_beside(shape, config.action)
    length = None if preset.window_frames else FULL_LENGTH
    values = sum(heads * size for heads, size in shape.all_layers)
    twin = () if model.twin_model is None else _unpacked(model.twin_model)
    stored = *_unpacked(model), *twin
    weights = [_loaded_bytes(weight, compute, weight_dtype) for weight in stored]
    return MemoryPlan(
        width,
        height,
        rows * columns,
        sum(weights),
        max(weights),
        2 * values * rows * columns * compute.itemsize,
        histories * planned_bytes(shape, policy, DENSE, length),
        _vae_values(model, rows * columns * PATCH**2) * compute.itemsize,
        histories,
    )


def _unpacked(model: Recognition) -> Iterator[TensorInfo]:
    """The tensors as they are loaded: fp8 with a scale for each row as wide numbers."""
    for name, tensor in model.tensors.items():
        layer, _, end = name.rpartition(".")
        if model.quantised.formats.get(layer) != FP8_ROWS:
            yield tensor
        elif end in ("weight", "bias"):
            yield replace(tensor, dtype="F32", stored_bytes=4 * tensor.count)


def _loaded_bytes(weight: TensorInfo, compute: torch.dtype, loaded: torch.dtype | None) -> int:
    if loaded is not None:
        return weight.count * loaded.itemsize
    if ITEM_BYTES.get(weight.dtype, 0) > compute.itemsize:
        return weight.count * compute.itemsize
    return weight.stored_bytes


def _vae_values(model: Recognition, latent_area: int) -> int:
    """The values in the state of the Wan VAE's decoder; the demo's VAE keeps next to nothing."""
    if model.family.key in (DEMO_KEY, FAST_DEMO_KEY):
        return 0
    return decoder_state_values(five_b=model.family.shape == FIVE_B) * latent_area
