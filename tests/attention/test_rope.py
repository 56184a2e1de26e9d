"""Rotary positions against the complex-number formula of the official Wan code, and law 3."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longtake.attention import rope
from longtake.attention.dense import attend
from longtake.attention.rope import (
    LatestRotation,
    Rotation,
    quarter_turn,
    rotate,
    rotate_pairs,
    rotation,
    times_i,
)
from longtake.tests.support.tiny_model import randn


def official(x: Tensor, first: int, grid: tuple[int, int, int]) -> Tensor:
    """Rotate x (s, n, d) as rope_apply of Wan-Video/Wan2.1 `wan/modules/model.py` does."""
    d = x.shape[-1]

    def table(positions: Tensor, part: int) -> Tensor:
        frequencies = 1 / 10000 ** (torch.arange(0, part, 2, dtype=torch.float64) / part)
        angles = torch.outer(positions.double(), frequencies)
        return torch.polar(torch.ones_like(angles), angles)

    f, h, w = grid
    parts = [
        table(torch.arange(first, first + f), d - 4 * (d // 6)).view(f, 1, 1, -1).expand(*grid, -1),
        table(torch.arange(h), 2 * (d // 6)).view(1, h, 1, -1).expand(*grid, -1),
        table(torch.arange(w), 2 * (d // 6)).view(1, 1, w, -1).expand(*grid, -1),
    ]
    turns = torch.cat(parts, -1).reshape(f * h * w, 1, -1)
    pairs = torch.view_as_complex(x.double().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2)


@pytest.mark.parametrize("head_dim", [12, 16, 24, 32, 128])
@pytest.mark.parametrize("first", [0, 29, 5_000])
def test_equals_the_official_formula(head_dim: int, first: int) -> None:
    grid = (3, 3, 5)
    x = randn(1, 45, 2, head_dim)
    ours = rotate(x, rotation(range(first, first + 3), 3, 5, head_dim))
    torch.testing.assert_close(ours[0].double(), official(x[0], first, grid), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shift", [1, 30, 1_024, 5_000, 1_000_000])
def test_attention_does_not_see_where_the_window_starts(shift: int) -> None:
    q, k, v = (randn(1, 4 * 15, 2, 24, seed=i) for i in range(3))
    here, there = rotation(range(4), 3, 5, 24), rotation(range(shift, shift + 4), 3, 5, 24)
    expected = attend(rotate(q, here), rotate(k, here), v)
    torch.testing.assert_close(attend(rotate(q, there), rotate(k, there), v), expected)


def test_attention_does_see_the_order_of_frames() -> None:
    q, k, v = (randn(1, 8, 2, 24, seed=i) for i in range(3))
    now = rotation([2, 3], 2, 2, 24)
    near = attend(rotate(q, now), rotate(k, rotation([0, 1], 2, 2, 24)), v)
    swapped = attend(rotate(q, now), rotate(k, rotation([1, 0], 2, 2, 24)), v)
    assert (near - swapped).abs().max() > 1e-2


def test_low_precision_is_rotated_in_float32() -> None:
    x = randn(1, 15, 2, 24).bfloat16()
    by = rotation([5_000], 3, 5, 24)
    turned = rotate(x, by)
    assert turned.dtype == torch.bfloat16
    torch.testing.assert_close(turned, rotate(x.float(), by).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("head_dim", [2, 12, 16, 22, 48, 64, 128])
@pytest.mark.parametrize("tokens", [1, 7, 30, 300])
def test_a_rotation_is_the_formula_bit_for_bit_however_tokens_lie(
    head_dim: int, tokens: int
) -> None:
    x, angles = randn(2, tokens, 3, head_dim), 9 * randn(tokens, 1, head_dim // 2, seed=1)
    cos, sin = angles.cos(), angles.sin()
    a, b = x[..., 0::2], x[..., 1::2]
    expected = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
    by = Rotation(*(one.repeat_interleave(2, -1) for one in (cos, sin)))
    each = Rotation(*(one.expand_as(x).contiguous() for one in (by.cos, by.sin)))
    assert torch.equal(rotate(x, by), expected)
    assert torch.equal(rotate(x, each), expected)
    by_heads = Rotation(by.cos.transpose(0, 1), by.sin.transpose(0, 1))
    assert torch.equal(rotate(x.transpose(1, 2), by_heads), expected.transpose(1, 2))
    assert torch.equal(times_i(x), quarter_turn(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [16, 48, 128])
def test_a_pass_without_gradients_rotates_to_the_same_bits(
    head_dim: int, dtype: torch.dtype
) -> None:
    """Also heads that lie beside others, as those of one product for several layers."""
    width, by = 3 * head_dim, rotation(range(3), 2, 4, head_dim)
    beside = randn(1, 24, 3 * width).to(dtype).split(width, -1)[1].unflatten(-1, (3, -1))
    for x in (beside, beside.contiguous()):
        learnt = rotate(x, by)
        with torch.inference_mode():
            assert torch.equal(rotate(x, by), learnt) and learnt.dtype is dtype


@pytest.mark.parametrize("head_dim", [12, 48])
def test_gradients_pass_a_rotation(head_dim: int) -> None:
    by, weights = rotation(range(3), 2, 4, head_dim), randn(1, 24, 3, head_dim, seed=1)
    gradients = []
    for turn in (rotate, lambda x, by: rotate_pairs(x, by.cos, by.sin)):
        x = randn(1, 24, 3, head_dim).requires_grad_()
        (turn(x, by) * weights).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("head_dim", [2, 12, 22, 128])
def test_a_rotation_on_cuda_is_the_formula_to_a_rounding(
    monkeypatch: pytest.MonkeyPatch, head_dim: int
) -> None:
    """There complex numbers rotate tokens of any number, in three kernels for seven."""
    x, by = randn(2, 300, 3, head_dim), rotation(range(4), 15, 5, head_dim)
    plain = by.turn(x, by.cos, by.sin)
    monkeypatch.setattr(rope, "device_kind", lambda _x: "cuda")
    turned = rotate(x, by)
    assert "units" in vars(by)  # the complex numbers were used
    torch.testing.assert_close(turned, plain, rtol=0, atol=1e-6)


def test_the_latest_rotation_is_made_once_and_anew_for_other_frames_or_another_device() -> None:
    latest = LatestRotation()
    first = latest.get(range(3), 2, 3, 12)
    assert latest.get([0, 1, 2], 2, 3, 12) is first
    for frames in ([1, 2, 3], [0, 1, 2]):
        assert torch.equal(latest.get(frames, 2, 3, 12).cos, rotation(frames, 2, 3, 12).cos)
    assert latest.get([0, 1, 2], 2, 3, 12, "meta").cos.device.type == "meta"
