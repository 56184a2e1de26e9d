"""Our transformer against diffusers' Wan and its block-causal SkyReels-V2, on random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import FullHistory
from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.attention.storage.shape import CacheShape
from longtake.model.config import DiTConfig
from longtake.model.dit import PassOptions, WanDiT, predict, project_text
from longtake.tests.support.model.diffusers_names import to_diffusers
from longtake.tests.support.tiny_model import randn, random_dit

diffusers = pytest.importorskip("diffusers")

TEXT_LEN = 512
CONFIGS = [
    DiTConfig(dim=48, ffn_dim=96, num_heads=2, num_layers=2, text_dim=32),
    DiTConfig(dim=32, ffn_dim=48, num_heads=2, num_layers=3, text_dim=16),
    DiTConfig(dim=128, ffn_dim=160, num_heads=1, num_layers=1, text_dim=16),
]
ROWS, COLUMNS = 3, 5


def reference(kind: str, ours: WanDiT, config: DiTConfig, **extra: int) -> nn.Module:
    """The diffusers model of class `kind` with our weights, every one of them used."""
    model: nn.Module = getattr(diffusers, kind)(
        num_attention_heads=config.num_heads,
        attention_head_dim=config.head_dim,
        text_dim=config.text_dim,
        ffn_dim=config.ffn_dim,
        num_layers=config.num_layers,
        **extra,
    )
    model.load_state_dict({to_diffusers(key): value for key, value in ours.state_dict().items()})
    return model.eval().requires_grad_(False)


def context_of(config: DiTConfig) -> Tensor:
    """A prompt (1, 512, text_dim) of seven tokens, the rest zeros."""
    context = torch.zeros(1, TEXT_LEN, config.text_dim)
    context[:, :7] = randn(1, 7, config.text_dim, seed=3)
    return context


def latents(frames: int) -> Tensor:
    """Random latents (1, f, 16, h, w)."""
    return randn(1, frames, 16, 2 * ROWS, 2 * COLUMNS, seed=1)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"head{c.head_dim}")
def test_full_attention_equals_diffusers_wan(config: DiTConfig) -> None:
    dit, x, frames = random_dit(config), latents(3), 3
    t = torch.tensor([[37.5, 937.5, 625.0]])
    theirs = reference("WanTransformer3DModel", dit, config)
    per_token = t.repeat_interleave(ROWS * COLUMNS, 1)
    expected = theirs(x.transpose(1, 2), per_token, context_of(config), return_dict=False)[0]
    by = rotation(range(frames), ROWS, COLUMNS, config.head_dim)
    text = project_text(dit, context_of(config)[:, None])
    ours = predict(dit, x, t, text, WholeSequence(by)).velocity
    torch.testing.assert_close(ours.transpose(1, 2), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 37.5, 1000.0])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"head{c.head_dim}")
def test_one_timestep_for_all_frames_is_the_models_scalar_one(
    config: DiTConfig, level: float
) -> None:
    """T2: the path that models of one level take is another one in diffusers."""
    dit, x = random_dit(config), latents(3)
    theirs = reference("WanTransformer3DModel", dit, config)
    scalar = torch.tensor([level])
    expected = theirs(x.transpose(1, 2), scalar, context_of(config), return_dict=False)[0]
    by = rotation(range(3), ROWS, COLUMNS, config.head_dim)
    text = project_text(dit, context_of(config)[:, None])
    ours = predict(dit, x, scalar.expand(1, 3), text, WholeSequence(by)).velocity
    torch.testing.assert_close(ours.transpose(1, 2), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"head{c.head_dim}")
def test_cached_chunks_equal_diffusers_block_causal_skyreels(config: DiTConfig) -> None:
    dit, x, frames, chunk = random_dit(config), latents(6), 6, 3
    t = torch.tensor([[100.0] * 3 + [800.0] * 3])
    theirs = reference("SkyReelsV2Transformer3DModel", dit, config, num_frame_per_block=chunk)
    expected = theirs(
        x.transpose(1, 2),
        t,
        context_of(config),
        enable_diffusion_forcing=True,
        return_dict=False,
    )[0]
    shape = CacheShape(
        config.num_layers, 1, config.num_heads, config.head_dim, ROWS, COLUMNS, chunk
    )
    cache, parts = KVCache(shape, FullHistory(), frames), []
    text = project_text(dit, context_of(config)[:, None])
    for first in range(0, frames, chunk):
        part, when = x[:, first : first + chunk], t[:, first : first + chunk]
        out = predict(dit, part, when, text, cache.attention(chunk), PassOptions(keep=True))
        cache.commit(out.keys_values)
        parts.append(out.velocity)
    ours = torch.cat(parts, 1)
    torch.testing.assert_close(ours.transpose(1, 2), expected, rtol=0, atol=1e-4)
