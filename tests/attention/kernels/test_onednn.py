"""Long attention by oneDNN's products has the values of a softmax in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longtake.attention.kernels import fused, onednn
from longtake.attention.kernels.fused import fused_attention
from longtake.attention.kernels.onednn import FEWEST_LOGITS, attend_long, suits_long_attention
from longtake.machine.products import product
from longtake.tests.support.attention.exact_softmax import Recorded, exact, tensors

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


@pytest.mark.parametrize("keys", [20, 53])
@pytest.mark.parametrize("logits", [10, 100, 10_000])
@pytest.mark.parametrize("queries", [1, 7, 40])
@torch.inference_mode()
def test_attention_is_that_of_float64(
    monkeypatch: pytest.MonkeyPatch, queries: int, logits: int, keys: int
) -> None:
    monkeypatch.setattr(onednn, "LOGITS", logits)  # one query at once, some, all
    monkeypatch.setattr(onednn, "KEYS", keys)  # in six parts, all at once
    monkeypatch.setattr(onednn, "PART", 10)
    q, k, v = tensors(queries, 53)
    out = attend_long(q, k, v)
    torch.testing.assert_close(out.double(), exact(q, k, v, 16**-0.5), rtol=1e-5, atol=1e-5)
    scaled = attend_long(q, k, v, 0.7)
    torch.testing.assert_close(scaled.double(), exact(q, k, v, 0.7), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("keys", [20, 53])
@torch.inference_mode()
def test_a_product_finds_keys_in_an_order_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, keys: int
) -> None:
    """Else it copies them for each run of queries: most of the time of a long history."""
    copied = list[Tensor]()

    def recorded(x: Tensor, weight: Tensor) -> Tensor:
        if not (weight.is_contiguous() or weight.t().is_contiguous()):
            copied.append(weight)
        return product(x, weight)

    monkeypatch.setattr(onednn, "product", recorded)
    monkeypatch.setattr(onednn, "LOGITS", 100)
    monkeypatch.setattr(onednn, "KEYS", keys)
    monkeypatch.setattr(onednn, "PART", 10)
    attend_long(*tensors(40, 53))
    assert not copied


@torch.inference_mode()
def test_a_part_of_a_longer_cache_is_read_as_it_is() -> None:
    q, k, v = tensors(9, 30)
    part = slice(4, 25)
    out = attend_long(q, k[:, :, part], v[:, :, part])
    wanted = exact(q, k[:, :, part], v[:, :, part], 16**-0.5)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-5)
    q, k, v = tensors(9, 30)
    assert torch.equal(attend_long(q, k[:, :, part], v[:, :, part]), out)  # inputs are unchanged


@torch.inference_mode()
def test_tokens_lie_together_in_what_comes_out() -> None:
    out = attend_long(*tensors(9, 30)).transpose(1, 2)
    assert out.is_contiguous()


@torch.no_grad()
def test_long_float32_attention_alone_is_done_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.machine.products.outdoes_mkl", lambda: True)
    keys = 1024
    q, k = torch.zeros(1, 2, FEWEST_LOGITS // keys, 16), torch.zeros(1, 2, keys, 16)
    assert suits_long_attention(q, k)
    assert not suits_long_attention(q[:, :, 1:], k)
    assert not suits_long_attention(q.bfloat16(), k.bfloat16())
    with torch.enable_grad():
        assert not suits_long_attention(q, k)


@torch.inference_mode()
def test_masked_attention_stays_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "suits_long_attention", lambda *_: True)
    taken = Recorded(attend_long)
    monkeypatch.setattr(fused, "attend_long", taken)
    q, k, v = tensors(9, 30)
    fused_attention(q, k, v, torch.ones(9, 30, dtype=torch.bool))
    assert not taken.queries
    out = fused_attention(q, k, v)
    assert len(taken.queries) == 1
    torch.testing.assert_close(out.double(), exact(q, k, v, 16**-0.5), rtol=1e-5, atol=1e-5)
