"""Attention in bfloat16 is as near to a softmax in float64 as bfloat16's 8 bits allow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longtake.attention.kernels import fused, lowered
from longtake.attention.kernels.biased import attend_biased
from longtake.attention.kernels.fused import fused_attention
from longtake.attention.kernels.lowered import (
    FEWEST_LOGITS,
    MOST_KEYS,
    attend_lowered,
    suits_lowering,
)
from longtake.machine.products import computes_in_bfloat16
from longtake.tests.support.attention.exact_softmax import Recorded, exact, tensors
from longtake.tests.support.tiny_model import randn

HALF = torch.finfo(torch.bfloat16).eps / 2  # the most that rounding moves a value, relative


def error(out: Tensor, wanted: Tensor) -> float:
    """How far values are off, as a share of their own size, over all of them."""
    return float((out.double() - wanted).norm() / wanted.norm())


@pytest.fixture(params=[False, True], ids=["products", "tiles"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Each of the two ways, whatever this CPU has."""
    monkeypatch.setattr(lowered, "multiplies_tiles", lambda: request.param)
    return bool(request.param)


@pytest.mark.parametrize("logits", [10, 1000, 1_000_000])
@pytest.mark.parametrize("queries", [1, 7, 40])
@pytest.mark.usefixtures("tiles")
@torch.inference_mode()
def test_attention_is_that_of_float64(
    monkeypatch: pytest.MonkeyPatch, queries: int, logits: int
) -> None:
    monkeypatch.setattr(lowered, "LOGITS", logits)  # one query at once, some, all
    q, k, v = tensors(queries, 53)
    out = attend_lowered(q, k, v)
    assert out.dtype is torch.float32
    assert error(out, exact(q, k, v, 16**-0.5)) < 3 * HALF
    assert error(attend_lowered(q, k, v, 0.7), exact(q, k, v, 0.7)) < 3 * HALF
    assert error(attend_lowered(q, k, v), exact(q, k, v, 0.7)) > 20 * HALF


@pytest.mark.usefixtures("tiles")
@torch.inference_mode()
def test_a_part_of_a_longer_cache_is_read_as_it_is() -> None:
    q, k, v = tensors(9, 30)
    part = slice(4, 25)
    out = attend_lowered(q, k[:, :, part], v[:, :, part])
    wanted = exact(q, k[:, :, part], v[:, :, part], 16**-0.5)
    assert error(out, wanted) < 3 * HALF
    q, k, v = tensors(9, 30)
    assert torch.equal(attend_lowered(q, k[:, :, part], v[:, :, part]), out)  # inputs are unchanged


@torch.no_grad()
def test_float32_attention_that_gains_is_done_so(
    monkeypatch: pytest.MonkeyPatch, *, tiles: bool
) -> None:
    monkeypatch.setattr(lowered, "has_wide_products", lambda: True)
    keys = 1024
    q, k = torch.zeros(1, 2, FEWEST_LOGITS // keys, 16), torch.zeros(1, 2, keys, 16)
    assert suits_lowering(q, k)
    assert not suits_lowering(q[:, :, 1:], k)
    assert not suits_lowering(q.bfloat16(), k.bfloat16())
    assert suits_lowering(q, torch.zeros(1, 2, MOST_KEYS + 1, 16)) is tiles
    with torch.enable_grad():
        assert not suits_lowering(q, k)
    monkeypatch.setattr(lowered, "has_wide_products", lambda: False)
    assert not suits_lowering(q, k)


@torch.inference_mode()
def test_only_who_asks_for_bfloat16_gets_less_than_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "suits_lowering", lambda *_: True)
    taken = Recorded(attend_lowered)
    monkeypatch.setattr(fused, "attend_lowered", taken)
    q, k, v = tensors(9, 30)
    exactly = fused_attention(q, k, v)
    fused_attention(q, k, v, torch.ones(9, 30, dtype=torch.bool), products=torch.bfloat16)
    attend_biased(q, k, v, torch.zeros(2, 3, 30), torch.bfloat16)
    assert not taken.queries
    out = attend_biased(q, k, v, None, torch.bfloat16)
    assert len(taken.queries) == 1 and not torch.equal(out, exactly)


@pytest.mark.skipif(
    not computes_in_bfloat16(torch.device("cpu")), reason="this CPU has no bfloat16"
)
@torch.inference_mode()
def test_a_window_of_the_demo_is_off_by_less_than_twice_torchs_own_bfloat16(*, tiles: bool) -> None:
    """Torch's kernel keeps logits in float32, so twice its error is allowed. With AMX it serves."""
    q, k, v = (randn(1, s, 4, 48, seed=i).transpose(1, 2) for i, s in enumerate((72, 576, 576)))
    wanted = exact(q, k, v, 48**-0.5)
    torchs = torch.nn.functional.scaled_dot_product_attention(*(x.bfloat16() for x in (q, k, v)))
    out = attend_lowered(q, k, v)
    assert error(out, wanted) < 2 * error(torchs, wanted)
    assert torch.equal(out, torchs.float()) is tiles
