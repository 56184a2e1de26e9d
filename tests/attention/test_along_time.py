"""Attention along time, against loops over tokens, heads and frames."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longtake.attention.along_time import TURNED, attend_in_place, attend_to_frames, turn, turns
from longtake.tests.support.tiny_model import randn

B, FRAMES, PAST, TOKENS, HEADS, WIDTH = 2, 3, 4, 5, 2, 12
VISIBLE = [(3, 3, 3), (1, 2, 3), (2, 2, 3)]


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One query (d,) on keys and values (t, d)."""
    return torch.softmax(k @ q / q.shape[0] ** 0.5, 0) @ v


@pytest.mark.parametrize("visible", VISIBLE)
def test_a_token_attends_to_its_own_place(visible: tuple[int, ...]) -> None:
    q = randn(B, FRAMES, TOKENS, HEADS, WIDTH, seed=1)
    k, v = (randn(B, PAST + FRAMES, TOKENS, HEADS, WIDTH, seed=seed) for seed in (2, 3))
    out = attend_in_place(q, k, v, visible)
    assert out.shape == q.shape
    for b, f, s, n in torch.cartesian_prod(*map(torch.arange, (B, FRAMES, TOKENS, HEADS))):
        seen = (b, slice(PAST + visible[f]), s, n)
        torch.testing.assert_close(out[b, f, s, n], attended(q[b, f, s, n], k[seen], v[seen]))


@pytest.mark.parametrize("visible", VISIBLE)
def test_every_token_attends_to_one_key_of_a_frame(visible: tuple[int, ...]) -> None:
    q = randn(B, FRAMES, TOKENS, HEADS, WIDTH, seed=4)
    k, v = (randn(B, PAST + FRAMES, HEADS, WIDTH, seed=seed) for seed in (5, 6))
    out = attend_to_frames(q, k, v, visible)
    assert out.shape == q.shape
    for b, f, s, n in torch.cartesian_prod(*map(torch.arange, (B, FRAMES, TOKENS, HEADS))):
        seen = (b, slice(PAST + visible[f]), n)
        torch.testing.assert_close(out[b, f, s, n], attended(q[b, f, s, n], k[seen], v[seen]))


def test_only_the_difference_of_frames_counts() -> None:
    q, k = (randn(1, 1, 1, 1, WIDTH, seed=seed) for seed in (7, 8))

    def product(query: int, key: int) -> float:
        return float((turn(q, turns([query])) * turn(k, turns([key]))).sum())

    assert product(9, 4) == pytest.approx(product(6, 1), abs=1e-5)
    assert abs(product(9, 4) - product(9, 3)) > 1e-3


def test_a_turn_is_a_complex_product_of_neighbouring_channels() -> None:
    x, frame = randn(1, 2, 1, 1, WIDTH, seed=9), 11
    angles = torch.tensor([frame * 256.0 ** (-2 * i / TURNED) for i in range(TURNED // 2)])
    pairs = torch.view_as_complex(x[0, 1, 0, 0, :TURNED].view(-1, 2).contiguous())
    wanted = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten()
    turned = turn(x, turns([3, frame]))
    torch.testing.assert_close(turned[0, 1, 0, 0, :TURNED], wanted)
    assert torch.equal(turned[..., TURNED:], x[..., TURNED:])
