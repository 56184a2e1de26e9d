"""Norms of a Wan VAE: the host's formula with fewer passes over memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from longtake.model.vae import wan_layers
from longtake.model.vae.memory_order import by_pixel, is_by_pixel
from longtake.model.vae.wan_layers import CHANNELS, Norm, last_frames
from longtake.tests.support.tiny_model import randn

WIDTH = 24
SHAPES = [(1, WIDTH, 2, 3, 4), (3, WIDTH, 4, 5), (1, WIDTH, 1, 1, 1)]
GPU = pytest.mark.gpu
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def host_norm(axes: int) -> Any:
    """The host's module for features or frames of so many axes."""
    gamma = 1 + 0.1 * randn(WIDTH, *[1] * (axes - 2), seed=3)
    return SimpleNamespace(gamma=gamma, scale=WIDTH**0.5)


def theirs(norm: Any, x: Tensor) -> Tensor:
    return F.normalize(x, dim=1) * norm.scale * norm.gamma.to(x)


def features(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Pixels of all sizes, and a zero one."""
    x = randn(*shape) * torch.logspace(-2, 3, shape[-1])
    x[..., 0] = 0 if shape[-1] > 1 else x[..., 0]
    return by_pixel(x.to(dtype), CHANNELS)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fused", [False, True], ids=["in two", "in one kernel"])
def test_a_norm_is_the_hosts(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], fused: bool
) -> None:
    monkeypatch.setattr(wan_layers, "fuses_norms", lambda x: fused)
    x, norm = features(shape, torch.float32), host_norm(len(shape))
    before = x.clone()
    ours = Norm(norm)(x)
    torch.testing.assert_close(ours, theirs(norm, x), rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(Norm(norm).activate(x), F.silu(ours), rtol=0, atol=1e-6)
    assert torch.equal(x, before) and is_by_pixel(ours, CHANNELS)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[GPU, NO_GPU])])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fused", [False, True], ids=["in two", "in one kernel"])
def test_a_norm_in_half_precision_is_right_but_for_roundings(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, fused: bool, device: str
) -> None:
    monkeypatch.setattr(wan_layers, "fuses_norms", lambda x: fused)
    x, norm = features((1, WIDTH, 2, 3, 4), dtype), host_norm(5)
    ours = Norm(norm)(x.to(device)).cpu()
    assert ours.dtype == dtype
    exact, step = theirs(norm, x.double()), torch.finfo(dtype).eps
    torch.testing.assert_close(ours.double(), exact, rtol=2 * step, atol=1e-5)


def test_plain_order_is_normed_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wan_layers, "fuses_norms", lambda x: pytest.fail("not by pixel"))
    x, norm = randn(1, WIDTH, 2, 3, 4), host_norm(5)
    torch.testing.assert_close(Norm(norm)(x), theirs(norm, x), rtol=2e-6, atol=1e-7)


def test_no_norm_is_one_kernel_where_torch_has_none() -> None:
    assert not wan_layers.fuses_norms(torch.ones(1))


@pytest.mark.parametrize("counts", [[1, 1, 1, 1], [1, 3], [2, 2], [1, 1, 2], [4]], ids=str)
def test_a_convolution_remembers_the_last_two_frames(counts: list[int]) -> None:
    """Frames before the first are zero, as the convolution pads."""
    x, past = randn(1, 3, 4, 2, 2), None
    for part in x.split(counts, 2):
        past = last_frames(part, past)
        assert past.shape[2] == 2 and past.untyped_storage().nbytes() == past.nbytes
    assert past is not None and torch.equal(past, x[:, :, -2:])
    first = last_frames(x[:, :, :1], None)
    assert torch.equal(first, torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, :1]], 2))
