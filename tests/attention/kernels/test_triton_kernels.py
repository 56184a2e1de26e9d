"""Triton kernels against stock operations: on a GPU, or by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from longtake.attention.ann.buckets import bucketed_nearest
from longtake.attention.ann.choice import nearest_by_triton
from longtake.attention.ann.lsh import RandomProjection
from longtake.attention.ann.nearest import CodedKeys
from longtake.attention.history import open_cache
from longtake.attention.kernels import selected
from longtake.attention.kernels.blockwise import Part, attend_part, merge
from longtake.attention.kernels.key_selection import select_for_all_heads
from longtake.attention.sparse.blocks import build_blocks
from longtake.attention.storage.dense import DENSE
from longtake.attention.storage.shape import CacheShape
from longtake.attention.temp_cache.policy import TempCache
from longtake.tests.support.attention.kernel_formula import attend_tokens
from longtake.tests.support.tiny_model import randn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytest.importorskip("triton", reason="triton is not installed")


def parts(s: int, t: int, d: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """q, k, v (b, n, ., d), with k and v in the memory layout of a cache."""
    q = randn(2, 2, s, d)
    k, v = (randn(2, t + 3, 2, d, seed=i).transpose(1, 2)[:, :, 2:-1] for i in (1, 2))
    return [x.to(DEVICE, dtype) for x in (q, k, v)]


CLOSE = {torch.float32: (1e-3, 1e-4), torch.float16: (1e-2, 2e-3)}  # the interpreter has no bf16


@pytest.mark.parametrize(("s", "t", "d", "m"), [(1, 1, 8, 1), (37, 90, 12, 33), (64, 70, 48, 70)])
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("with_bias", [True, False])
def test_selected_keys(
    s: int, t: int, d: int, m: int, dtype: torch.dtype, *, with_bias: bool
) -> None:
    from longtake.attention.kernels import triton_selected

    q, k, v = parts(s, t, d, dtype)
    tokens = randn(2, 2, -(-s // 16), t, seed=3).argsort(-1)[..., :m].to(DEVICE)
    tokens[..., 1::4] = -1
    bias = randn(2, 2, t, seed=4).to(DEVICE) if with_bias else None
    found = attend_tokens(triton_selected.attend_selected, q, k, v, bias, tokens, 16)
    expected = attend_tokens(selected.attend_selected, q, k, v, bias, tokens, 16)
    rtol, atol = CLOSE[dtype]
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("s", "t", "d"), [(1, 70, 8), (70, 3000, 12), (200, 500, 48)])
@pytest.mark.parametrize("dtype", CLOSE)
def test_shares_of_blocks(s: int, t: int, d: int, dtype: torch.dtype) -> None:
    from longtake.attention.kernels import shares, triton_shares

    q, k, _ = parts(s, t, d, dtype)
    blocks = build_blocks(k, randn(2, 2, t, seed=4).to(DEVICE), torch.arange(t, device=DEVICE))
    asked = q, blocks.means, blocks.log_mass, 16
    found, expected = (kernel.sum_shares(*asked) for kernel in (triton_shares, shares))
    rtol, atol = CLOSE[dtype]
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)
    torch.testing.assert_close(found.sum((2, 3)), torch.full_like(found[:, :, 0, 0], s))


@pytest.mark.parametrize(
    ("dtype", "width", "keys"),
    [(torch.float16, 128, 128), (torch.bfloat16, 64, 128), (torch.float32, 128, 32),
     (torch.float16, 256, 32)],
)  # fmt: skip
def test_a_step_takes_as_many_keys_as_fit_the_shared_memory(
    dtype: torch.dtype, width: int, keys: int
) -> None:
    from longtake.attention.kernels.triton_selected import keys_at_once

    assert keys_at_once(torch.zeros(1, 1, 1, width, dtype=dtype)) == keys


def test_parts_by_the_kernel_join_with_others_and_an_empty_one_adds_nothing() -> None:
    from longtake.attention.kernels.triton_selected import attend_selected_part

    q, k, v = parts(16, 40, 12, torch.float32)
    whole = attend_part(q, k, v)

    def over(tokens: torch.Tensor) -> Part:
        """Attend one block of keys, number 0."""
        blocks = tokens.to(DEVICE).expand(2, 2, 1, -1)
        chosen = torch.zeros(2, 2, 1, 1, dtype=torch.int32, device=DEVICE)
        read = select_for_all_heads(blocks, chosen, blocks.new_zeros(0))
        made = attend_selected_part(q, k, v, None, read, 16)
        return Part(made.out.view(q.shape), made.lse.view(q.shape[:3]))

    ours, none = over(torch.arange(25)), over(torch.full((32,), -1))
    assert (none.lse == -torch.inf).all()
    both = merge([ours, attend_part(q, k[:, :, 25:], v[:, :, 25:]), none])
    torch.testing.assert_close(both.out, whole.out, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(both.lse, whole.lse, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["lsh", "k-means"])
def test_the_index_takes_the_kernel_that_is_asked_for(name: str) -> None:
    """Both kernels give the same entries; some buckets are empty."""
    shape = CacheShape(1, 1, 2, 12, 2, 3, 3)
    caches = [
        open_cache(shape, policy, DENSE, None, DEVICE)
        for policy in (
            TempCache(4, 0.8, index=name, kernel=kernel) for kernel in ("gathered", "triton")
        )
    ]
    assert caches[1].index.match is nearest_by_triton
    for frame in range(7):
        k = randn(1, 6, 2, 12, seed=frame % 3) + 0.1 * randn(1, 6, 2, 12, seed=40 + frame)
        kv = [(k.to(DEVICE), randn(1, 6, 2, 12, seed=80 + frame).to(DEVICE))]
        for cache in caches:
            cache.commit(kv)
    ours, theirs = (cache.snapshot().tensors for cache in caches)
    assert (ours["mass.0"] > 1).any()
    for key, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_bucketed_nearest_where_no_key_is_open_or_buckets_are_empty(dtype: torch.dtype) -> None:
    from longtake.attention.ann import triton_nearest

    buckets = RandomProjection(2, 12, bits=6)  # 64 buckets for nine keys
    new, keys = randn(1, 2, 5, 12).to(dtype), randn(1, 2, 9, 12, seed=1).to(dtype)
    codes = buckets.assign(0, keys).unsqueeze(-1)
    for open_ in (torch.zeros(1, 2, 9, dtype=torch.bool), torch.ones(1, 2, 9, dtype=torch.bool)):
        cached = CodedKeys(*(x.to(DEVICE) for x in (keys, codes, open_)))
        probes = buckets.probes(0, new, 2).to(DEVICE)
        found = triton_nearest.bucketed_nearest(new.to(DEVICE), probes, cached)
        expected = bucketed_nearest(new, probes.cpu(), CodedKeys(keys, codes, open_))
        torch.testing.assert_close(
            found.similarity.cpu(), expected.similarity, rtol=2e-3, atol=1e-3
        )
        assert (expected.similarity == -torch.inf).any()


@pytest.mark.parametrize(("s", "t", "d"), [(1, 1, 8), (7, 100, 12), (5, 65, 48)])
@pytest.mark.parametrize("probes", [1, 3])
def test_bucketed_nearest(s: int, t: int, d: int, probes: int) -> None:
    from longtake.attention.ann import triton_nearest

    buckets = RandomProjection(2, d, bits=3)
    new, keys = randn(2, 2, s, d), randn(2, 2, t, d, seed=1)
    cached = CodedKeys(keys, buckets.assign(0, keys).unsqueeze(-1), randn(2, 2, t, seed=2) > -1)
    on_device = CodedKeys(*(x.to(DEVICE) for x in (cached.keys, cached.codes, cached.allowed)))
    probed = buckets.probes(0, new, probes)
    found = triton_nearest.bucketed_nearest(new.to(DEVICE), probed.to(DEVICE), on_device)
    expected = bucketed_nearest(new, probed, cached)
    torch.testing.assert_close(found.similarity.cpu(), expected.similarity, rtol=1e-4, atol=1e-5)
    some = expected.similarity > -torch.inf
    assert torch.equal(found.number.cpu()[some], expected.number[some])
