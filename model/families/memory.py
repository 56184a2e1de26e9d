"""How much memory a recognised model takes at a picture size: weights, KV cache, VAE state."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...attention.cache.kv_cache import planned_bytes
from ...attention.storage.shape import CacheShape
from ..config import PATCH
from ..files.header import ITEM_BYTES, TensorInfo
from ..preset import DEMO
from ..preset_cache import preset_cache
from ..vae.wan_state import decoder_state_values
from .recognise import Recognition

COMPUTE = torch.bfloat16  # what the host computes in on a GPU, whatever the file stores
FULL_LENGTH = 21  # latent frames of Wan's 81, for a model that keeps all of them
FIVE_B = "ti2v-5b"


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes at one picture size; the KV cache without guidance, which doubles it.

    Of a model that is two, it is the KV cache of both.
    """

    width: int
    height: int
    frame_tokens: int
    weight_bytes: int
    kv_frame_bytes: int
    kv_bytes: int
    vae_bytes: int


def memory_plan(model: Recognition, width: int, height: int) -> MemoryPlan:
    """The plan for pictures of about `width` x `height`, snapped to the model's own grid."""
    latent_pixels = 16 if model.family.shape == FIVE_B else 8
    step = latent_pixels * PATCH
    width, height = width // step * step, height // step * step
    rows, columns = height // step, width // step
    config, preset = model.config, model.family.preset
    policy, histories = preset_cache(preset), 2 if preset.boundary else 1
    shape = CacheShape(
        layers=config.num_layers, batch=1, heads=config.num_heads, head_dim=config.head_dim,
        rows=rows, columns=columns, dtype=COMPUTE,
        chunk_frames=preset.chunk_frames * max(1, preset.rolling_chunks),
        hold_rotated=not policy.moves_keys,
    )  # fmt: skip
    return MemoryPlan(
        width,
        height,
        rows * columns,
        weight_bytes(model),
        2 * config.num_layers * rows * columns * config.dim * COMPUTE.itemsize,
        histories * planned_bytes(shape, policy, None if preset.window_frames else FULL_LENGTH),
        _vae_bytes(model, (height // latent_pixels) * (width // latent_pixels)),
    )


def weight_bytes(model: Recognition) -> int:
    """Bytes of the weights once loaded: wide floats are kept in the compute dtype.

    A twin in the same file counts too, the other file of a pair does not.
    """
    own = sum(_loaded_bytes(tensor) for tensor in model.tensors.values())
    return own if model.twin_model is None else own + weight_bytes(model.twin_model)


def _loaded_bytes(tensor: TensorInfo) -> int:
    if ITEM_BYTES.get(tensor.dtype, 0) > COMPUTE.itemsize:
        return tensor.count * COMPUTE.itemsize
    return tensor.stored_bytes


def largest_weight_bytes(model: Recognition) -> int:
    """Bytes of the largest weight, which must be on the card however many others wait elsewhere."""
    return max(_loaded_bytes(tensor) for tensor in model.tensors.values())


def _vae_bytes(model: Recognition, latent_area: int) -> int:
    """The state of the Wan VAE's streaming decoder; the demo's own VAE keeps next to nothing."""
    if model.family.preset == DEMO:
        return 0
    values = decoder_state_values(five_b=model.family.shape == FIVE_B)
    return values * latent_area * COMPUTE.itemsize
