"""CPUs, and NVIDIA's GPUs in half precision, decode with all channels of a pixel together."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtake.machine.rehearsed_device import simulate_device
from longtake.model.vae import tiny
from longtake.model.vae.memory_order import (
    by_pixel,
    doubled,
    is_by_pixel,
    order_weights,
    with_frame_before,
)
from longtake.model.vae.rehearsal import rehearse
from longtake.model.vae.streaming import StreamingDecoder
from longtake.model.vae.taehv_streaming import TAEHVStreamingDecoder, TAEHVStreamingEncoder
from longtake.tests.support.model.taehv_tree import taehv_tree, with_encoder
from longtake.tests.support.model.vaes import VAE
from longtake.tests.support.tiny_model import randn

SIZES = [(1, 3, 4, 2, 3), (2, 1, 5, 3, 2), (1, 2, 3, 1, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_either_order_holds_the_same_values(size: tuple[int, ...]) -> None:
    x, first = randn(*size), randn(*size)[:, :1]
    ordered = by_pixel(x)
    assert is_by_pixel(ordered) and torch.equal(ordered, x)
    assert is_by_pixel(x) == (size[-2:] == (1, 1))  # one pixel lies the same in both orders
    joined = with_frame_before(ordered, first)
    assert is_by_pixel(joined) and torch.equal(joined, with_frame_before(x, first))


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_repeated_in_either_order(size: tuple[int, ...]) -> None:
    x = randn(*size)
    expected = F.interpolate(x.flatten(0, 1), scale_factor=2.0, mode="nearest")
    for features in (x, by_pixel(x)):
        assert torch.equal(doubled(features), expected)
    assert is_by_pixel(doubled(by_pixel(x)))


def test_the_decoder_keeps_the_order_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    convolve = tiny.Conv.forward

    def look(layer: tiny.Conv, x: Tensor) -> Tensor:
        y = convolve(layer, x)
        seen.extend((is_by_pixel(x), is_by_pixel(y)))
        return y

    monkeypatch.setattr(tiny.Conv, "forward", look)
    StreamingDecoder(VAE).feed(randn(2, 16, 2, 3))
    assert len(seen) > 20 and all(seen)


def test_pictures_are_those_of_the_plain_order_but_for_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ordered = copy.deepcopy(VAE)
    order_weights(ordered.decoder)
    weights = [layer.weight for layer in ordered.decoder.modules() if isinstance(layer, nn.Conv2d)]
    assert len(weights) > 20 and all(is_by_pixel(weight) for weight in weights)
    latents = [2 * randn(count, 16, 4, 6, seed=count) for count in (1, 3, 2)]
    decoder = StreamingDecoder(ordered)
    ours = torch.cat([decoder.feed(part) for part in latents])
    monkeypatch.setattr(tiny, "by_pixel", lambda x: x)
    decoder = StreamingDecoder(VAE)
    plain = torch.cat([decoder.feed(part) for part in latents])
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)
    levels = [(255 * frames).round() for frames in (ours, plain)]
    assert (levels[0] - levels[1]).abs().max() <= 1
    assert {k: v.shape for k, v in ordered.state_dict().items()} == {
        k: v.shape for k, v in VAE.state_dict().items()
    }


ORDERS = [
    ("cpu", torch.float32, True),
    ("cuda", torch.float16, True),
    ("cuda", torch.bfloat16, True),
    ("cuda", torch.float32, False),
    ("mps", torch.float16, False),
    ("xpu", torch.bfloat16, False),
]


@pytest.mark.parametrize(("kind", "dtype", "ordered"), ORDERS, ids=str)
def test_a_device_has_the_order_in_which_it_was_measured_to_be_faster(
    kind: str, dtype: torch.dtype, ordered: bool
) -> None:
    x = torch.empty(1, 2, 3, 4, 5, dtype=dtype, device="meta")
    with simulate_device(SimpleNamespace(type=kind)):  # type: ignore[arg-type]
        assert is_by_pixel(by_pixel(x)) == is_by_pixel(by_pixel(x[0])) == ordered
        assert ordered or by_pixel(x) is x


def test_amd_gpus_keep_their_own_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are `cuda` to torch, and were not measured."""
    monkeypatch.setattr(torch.version, "hip", "6.4")
    x = torch.empty(1, 2, 3, 4, 5, dtype=torch.bfloat16, device="meta")
    with simulate_device(torch.device("cuda")):
        assert by_pixel(x) is x


@pytest.fixture
def convolved(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The inputs of the convolutions that run."""
    inputs: list[Tensor] = []
    convolve = nn.Conv2d.forward

    def note(layer: nn.Conv2d, x: Tensor) -> Tensor:
        inputs.append(x)
        return convolve(layer, x)

    monkeypatch.setattr(nn.Conv2d, "forward", note)
    return inputs


@torch.inference_mode()
def test_the_hosts_tiny_vaes_keep_the_order_throughout(convolved: list[Tensor]) -> None:
    """The layers that make frames of channels lose it, and their successors must not."""
    tree = with_encoder(taehv_tree())
    decoder, encoder = (
        kind(tree, torch.float32, raw=False)
        for kind in (TAEHVStreamingDecoder, TAEHVStreamingEncoder)
    )
    for _ in range(2):
        decoder.feed(randn(2, 16, 2, 3))
        encoder.feed(randn(8, 3, 16, 24).sigmoid())
    pools = [layer for layer in tree.encoder if hasattr(layer, "stride") and hasattr(layer, "conv")]
    plain = [x for x in convolved if not is_by_pixel(x)]
    assert len(convolved) > 40 and len(plain) <= 2 * len(pools)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_rehearsal_has_the_order_of_the_device(convolved: list[Tensor], kind: str) -> None:
    """Shape functions alone lose it at every convolution of half precision."""
    tree = taehv_tree().to(torch.bfloat16)

    def decoder(twin: Any) -> TAEHVStreamingDecoder:
        return TAEHVStreamingDecoder(twin, torch.bfloat16, raw=False)

    rehearse(tree, torch.bfloat16, decoder, [(2, 16, 2, 3)] * 2, torch.device(kind))
    assert len(convolved) > 40 and all(is_by_pixel(x) for x in convolved)
