"""A decoder in bfloat16: what it shows, what stays in float32, and which devices take it."""

from __future__ import annotations

import random

import pytest
import torch

from longtake.benchmarks._shared.demo import demo_vae
from longtake.model.preset import DEMO
from longtake.model.vae.precision import decoding_in
from longtake.model.vae.streaming import StreamingDecoder
from longtake.tests.support.node_bench import Bench
from longtake.training.world.clips import random_shot
from longtake.training.world.dataset import encode_shots

LEAST_DB = 55.0  # 8 bits a channel give 58.9


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(-10 * (one - other).square().mean().log10())


@torch.no_grad()
def test_pictures_are_those_of_float32_and_have_more_than_8_bits() -> None:
    vae = demo_vae()
    lowered = decoding_in(torch.bfloat16, vae)
    [latents] = encode_shots(vae, [random_shot(random.Random(3), 3)], 3, DEMO.width).float()
    whole, half = StreamingDecoder(vae).feed(latents), StreamingDecoder(lowered).feed(latents)
    assert half.dtype == torch.float32 and psnr(whole, half) > LEAST_DB
    assert not torch.equal(half, half.bfloat16().float())
    assert {p.dtype for p in vae.parameters()} == {torch.float32}  # the given one stays as it is
    assert {p.dtype for p in lowered.encoder.parameters()} == {torch.float32}
    assert {p.dtype for p in lowered.decoder[-1].parameters()} == {torch.float32}


@torch.no_grad()
@pytest.mark.parametrize("split", [[1] * 5, [3, 2], [1, 4]])
def test_it_streams_with_half_the_state(split: list[int]) -> None:
    vae = demo_vae()
    lowered = decoding_in(torch.bfloat16, vae)
    latents = torch.randn(5, 16, 8, 12, generator=torch.Generator().manual_seed(1))
    whole, streamed = StreamingDecoder(lowered), StreamingDecoder(lowered)
    parts = torch.cat([streamed.feed(piece) for piece in latents.split(split)])
    assert psnr(whole.feed(latents), parts) > LEAST_DB
    float32 = StreamingDecoder(vae)
    float32.feed(latents)
    assert whole.state_bytes * 2 == streamed.state_bytes * 2 == float32.state_bytes


@pytest.mark.parametrize(
    ("has_instructions", "wants_float32", "lowers"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_the_demo_decodes_in_it_unless_the_host_wants_float32(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    has_instructions: bool,
    wants_float32: bool,
    lowers: bool,
) -> None:
    from comfy.cli_args import args

    from longtake.nodes.models import demo_objects
    from longtake.nodes.models.streaming_vae import streaming_vae

    monkeypatch.setattr(demo_objects, "computes_in_bfloat16", lambda _: has_instructions)
    monkeypatch.setattr(args, "fp32_vae", wants_float32)
    vae = demo_objects.DemoVAE(demo_vae())
    assert (vae.decoding is not vae.first_stage_model) is lowers
    latents = torch.randn(1, 16, 3, 4, 6, generator=torch.Generator().manual_seed(2))
    streamed = streaming_vae(vae).open_decoder().feed(latents[0].movedim(0, 1))
    expected = StreamingDecoder(demo_vae()).feed(latents[0].movedim(0, 1))
    assert torch.equal(streamed, expected) is not lowers
