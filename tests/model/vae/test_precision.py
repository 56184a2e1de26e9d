"""A decoder in bfloat16: what it shows, what stays in float32, and which devices take it."""

from __future__ import annotations

import random

import pytest
import torch

from longtake.benchmarks._shared.demo import demo_vae
from longtake.model.preset import DEMO, DEMO_FOLDER, RANGES_NAME
from longtake.model.vae import precision
from longtake.model.vae.int8.decoder import decoding_in_int8
from longtake.model.vae.int8.ranges import load_ranges
from longtake.model.vae.precision import decoding_in
from longtake.model.vae.streaming import StreamingDecoder
from longtake.tests.support.int8 import needs_int8
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


FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"


@pytest.mark.parametrize(
    ("has_bfloat16", "has_int8", "wants_float32", "decodes"),
    [(True, False, False, BFLOAT16), (True, True, False, INT8), (False, True, False, INT8),
     (True, True, True, FLOAT32), (False, False, False, FLOAT32)],
)  # fmt: skip
def test_the_demo_decodes_as_fast_as_the_cpu_can_unless_the_host_wants_float32(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    has_bfloat16: bool,
    has_int8: bool,
    wants_float32: bool,
    decodes: str,
) -> None:
    from comfy.cli_args import args

    from longtake.nodes.models import demo_objects

    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda _: has_bfloat16)
    monkeypatch.setattr(precision, "convolves_in_int8", lambda _: has_int8)
    monkeypatch.setattr(precision, "decoding_in", lambda dtype, _: BFLOAT16)
    monkeypatch.setattr(precision, "decoding_in_int8", lambda module, ranges: INT8)
    monkeypatch.setattr(args, "fp32_vae", wants_float32)
    module = demo_vae()
    chosen = demo_objects.DemoVAE(module, ranges={}).decoding
    assert chosen is module if decodes == FLOAT32 else chosen == decodes
    without_ranges = demo_objects.DemoVAE(module).decoding
    assert without_ranges != INT8


@pytest.mark.parametrize("wants_float32", [True, False])
@pytest.mark.parametrize("way", [BFLOAT16, pytest.param(INT8, marks=needs_int8)])
def test_the_demos_nodes_show_what_it_decodes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, wants_float32: bool, way: str
) -> None:
    from comfy.cli_args import args

    from longtake.nodes.models import demo_objects
    from longtake.nodes.models.streaming_vae import streaming_vae

    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda _: True)
    monkeypatch.setattr(args, "fp32_vae", wants_float32)
    ranges = load_ranges(DEMO_FOLDER / RANGES_NAME, demo_vae()) if way == INT8 else None
    vae = demo_objects.DemoVAE(demo_vae(), ranges=ranges).copy_on(torch.device("cpu"))
    latents = torch.randn(3, 16, 4, 6, generator=torch.Generator().manual_seed(2))
    streamed = streaming_vae(vae).open_decoder().feed(latents)
    lowered = (
        decoding_in(torch.bfloat16, demo_vae())
        if ranges is None
        else decoding_in_int8(demo_vae(), ranges)
    )
    expected = StreamingDecoder(demo_vae() if wants_float32 else lowered).feed(latents)
    assert torch.equal(streamed, expected)
