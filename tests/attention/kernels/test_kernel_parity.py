"""Every kernel against the formula in float64: odd shapes, all dtypes, blocks without keys."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from torch import Tensor

from longtake.attention.ann.buckets import bucketed_nearest
from longtake.attention.ann.lsh import RandomProjection
from longtake.attention.ann.nearest import CodedKeys
from longtake.attention.backends import flex_reason
from longtake.attention.kernels import biased, selected
from longtake.attention.kernels.blockwise import attend_part
from longtake.tests.support.attention.kernel_formula import (
    DTYPES,
    attend_tokens,
    farthest_off,
    formula,
    masses,
    qkv,
    random_keys,
    visible_keys,
)
from longtake.tests.support.tiny_model import randn

QUERY_BLOCK = 64
CPU = torch.device("cpu")
FLEX = pytest.param(
    "flex",
    marks=[
        pytest.mark.slow,
        pytest.mark.timeout(1200),  # it compiles
        pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),  # torch's own
        pytest.mark.skipif(flex_reason(CPU) is not None, reason=str(flex_reason(CPU))),
    ],
)
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)
TRITON = pytest.param("triton_selected", marks=needs_triton)
# One token in a latent frame, and queries and keys that are no multiple of a block.
SHAPES = [(1, 1, 8), (37, 90, 12), (130, 301, 48), (65, 1, 20)]


def dense(name: str) -> Callable[..., Tensor]:
    """The kernel for all keys by name."""
    if name == "blockwise":
        return lambda *given: attend_part(*given, key_block=64).out
    if name == "flex":
        return import_module("longtake.attention.kernels.flex").attend_biased  # type: ignore[no-any-return]
    return getattr(biased, name)  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("name", ["attend_biased", "attend_augmented", "blockwise", FLEX])
def test_dense_attention_is_the_formula(name: str, dtype: torch.dtype, *, with_bias: bool) -> None:
    for s, t, d in SHAPES:
        q, k, v = qkv(s, t, d, dtype)
        bias = masses(t) if with_bias else torch.zeros(2, 2, t)
        off = (dense(name)(q, k, v, bias).double() - formula(q, k, v, bias)).abs().max()
        assert off <= farthest_off(q, k, v), (s, t, d)


def without_mask(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attend without a mask, as on CUDA."""
    if bias is None:
        return biased.attend_biased(q, k, v)
    return biased.attend_augmented(q, k, v, bias)


def over_keys(name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """The kernel for selected keys by name."""
    if name == "gathered on CUDA":
        monkeypatch.setattr(selected, "attend_biased", without_mask)
    if name.startswith("gathered"):
        return selected.attend_selected
    return import_module(f"longtake.attention.kernels.{name}").attend_selected  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("name", ["gathered", "gathered on CUDA", FLEX, TRITON])
def test_attention_to_chosen_keys_is_the_formula(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, *, with_bias: bool
) -> None:
    """Some query blocks read a single key; others read none, and their result is 0."""
    if name.startswith("triton") and dtype == torch.bfloat16 and not torch.cuda.is_available():
        pytest.skip("Triton's interpreter multiplies bfloat16 as if it were whole numbers")
    attend = over_keys(name, monkeypatch)
    for s, t, d in SHAPES:
        q, k, v = qkv(s, t, d, dtype)
        bias = masses(t).clamp(min=0) if with_bias else None
        tokens = random_keys(-(-s // QUERY_BLOCK), t, min(t, 70))
        expected = formula(q, k, v, bias, visible_keys(tokens, QUERY_BLOCK, s, t))
        found = attend_tokens(attend, q, k, v, bias, tokens, QUERY_BLOCK)
        off = (found.double() - expected).abs().max()
        assert off <= farthest_off(q, k, v), (s, t, d)
        assert (expected[:, 1, :QUERY_BLOCK] == 0).all()


def nearest_kernel(name: str) -> Callable[..., object]:
    """The kernel that searches buckets by name."""
    if name == "gathered":
        return bucketed_nearest
    return import_module("longtake.attention.ann.triton_nearest").bucketed_nearest  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["gathered", pytest.param("triton", marks=needs_triton)])
@pytest.mark.parametrize(("s", "t", "bits"), [(1, 1, 1), (5, 9, 6), (7, 100, 3)])
def test_the_nearest_key_of_the_probed_buckets_is_the_formulas(
    name: str, dtype: torch.dtype, s: int, t: int, bits: int
) -> None:
    """64 buckets hold nine keys, so most are empty; some keys are not allowed."""
    buckets = RandomProjection(2, 12, bits)
    new, keys = (randn(2, 2, count, 12, seed=i).to(dtype) for i, count in enumerate((s, t)))
    codes, probes = buckets.assign(0, keys), buckets.probes(0, new, 2)
    open_ = randn(2, 2, t, seed=2) > -1
    found = nearest_kernel(name)(new, probes, CodedKeys(keys, codes.unsqueeze(-1), open_))
    cosine = torch.cosine_similarity(
        new.double().unsqueeze(3), keys.double().unsqueeze(2), dim=-1
    )  # (b, n, s, t)
    probed = (probes.unsqueeze(-1) == codes[:, :, None, None, :]).any(3)
    best = cosine.masked_fill(~(probed & open_.unsqueeze(2)), -torch.inf).amax(-1)
    torch.testing.assert_close(found.similarity.double(), best, rtol=0, atol=1e-6)  # type: ignore[attr-defined]
    there = best > -torch.inf
    taken = cosine.gather(3, found.number.unsqueeze(-1)).squeeze(-1)  # type: ignore[attr-defined]
    torch.testing.assert_close(taken[there], best[there], rtol=0, atol=1e-6)
