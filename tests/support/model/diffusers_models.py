"""Small random models of diffusers: Wan transformers in files, Wan VAEs as module trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from longtake.tests.support.tiny_model import randn, randomise

diffusers = pytest.importorskip("diffusers")

FRAMES, ROWS, COLUMNS, HEAD = 3, 4, 6, 128
SIZES: dict[str, Any] = {
    "num_attention_heads": 2, "attention_head_dim": HEAD, "text_dim": 24, "ffn_dim": 40,
    "num_layers": 2,
}  # fmt: skip
COMMON: dict[str, Any] = {
    "base_dim": 4, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1, "attn_scales": [],
    "temperal_downsample": [False, True, True],
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "Wan 2.1": {"z_dim": 16},
    "Wan 2.2": {
        "z_dim": 48, "decoder_base_dim": 6, "is_residual": True, "in_channels": 12,
        "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16,
        "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
    },
}  # fmt: skip


def store(kind: str, folder: Path, seed: int = 1, **more: Any) -> Any:
    """A random model of diffusers, in the files that diffusers writes."""
    model = getattr(diffusers, kind)(**SIZES, **more)
    randomise(model, seed)
    model.eval().save_pretrained(folder, max_shard_size="2MB")
    return model


def vae(name: str) -> Any:
    """A random one."""
    model = diffusers.AutoencoderKLWan(**COMMON, **CONFIGS[name]).eval().requires_grad_(False)
    for i, parameter in enumerate(model.parameters()):
        fan = parameter[0].numel() if parameter.ndim > 1 else 1
        noise = randn(*parameter.shape, seed=i)
        parameter.data = noise / fan**0.5 if parameter.ndim != 4 or fan > 1 else 1 + 0.1 * noise
    return model


def tree(model: Any) -> Any:
    """Its parts under the official names that our streaming uses."""
    made = nn.Module()
    made.decoder, made.encoder = model.decoder, model.encoder
    made.conv1, made.conv2 = model.quant_conv, model.post_quant_conv
    return made
