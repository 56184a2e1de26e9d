"""Our streaming over the modules of diffusers' AutoencoderKLWan: its own whole videos.

Its encoder and decoder are called as those of the host's tree are; its `decode` and `encode` are
the reference.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longtake.model.vae.latent_format import denormalise, frame_count, normalise
from longtake.model.vae.wan22_streaming import Wan22StreamingDecoder, Wan22StreamingEncoder
from longtake.model.vae.wan_streaming import WanStreamingDecoder
from longtake.tests.support.model.diffusers_models import CONFIGS, tree, vae
from longtake.tests.support.tiny_model import randn

SPLITS = [[4], [1, 1, 1, 1], [3, 1], [0, 2, 2]]


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_decode_equals_diffusers_for_every_chunking(name: str, split: list[int]) -> None:
    model = vae(name)
    latents = randn(4, CONFIGS[name]["z_dim"], 2, 3)
    raw = denormalise(latents).transpose(0, 1).unsqueeze(0)
    whole: Tensor = model.decode(raw, return_dict=False)[0][0].transpose(0, 1)
    expected = ((whole + 1) / 2).clamp(0, 1)
    assert len(expected) == frame_count(4) and expected.std() > 0.02
    kind = WanStreamingDecoder if name == "Wan 2.1" else Wan22StreamingDecoder
    decoder = kind(tree(model), torch.float32)
    ours = torch.cat([decoder.feed(part) for part in latents.split(split)])
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("count", "step"), [(1, 1), (9, 3), (9, 9), (5, 4)])
@torch.inference_mode()
def test_wan22_encode_equals_diffusers_for_every_chunking(count: int, step: int) -> None:
    model = vae("Wan 2.2")
    frames = randn(count, 3, 32, 48).sigmoid()
    video = (2 * frames - 1).transpose(0, 1).unsqueeze(0)
    whole = model.encode(video, return_dict=False)[0].mode()[0].transpose(0, 1)
    encoder = Wan22StreamingEncoder(tree(model), torch.float32)
    parts = [encoder.feed(part) for part in frames.split(step)]
    rest = encoder.drain()
    ours = torch.cat(parts if rest is None else [*parts, rest])
    torch.testing.assert_close(ours, normalise(whole), rtol=0, atol=1e-4)
