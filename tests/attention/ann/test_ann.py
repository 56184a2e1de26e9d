"""Indexes against brute force, and kernels in stock operations against the formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.ann.buckets import BucketIndex, Buckets
from longtake.attention.ann.faiss_index import Faiss, faiss_unavailable_reason
from longtake.attention.ann.int8 import Int8, int8_products
from longtake.attention.ann.kmeans import OnlineKMeans
from longtake.attention.ann.lsh import RandomProjection
from longtake.attention.ann.nearest import KEY_BLOCK, CodedKeys, Exact, Index, Nearest
from longtake.attention.kernels.biased import attend_augmented, attend_biased
from longtake.attention.kernels.blockwise import attend_part, merge
from longtake.attention.kernels.selected import attend_selected
from longtake.tests.support.attention.kernel_formula import attend_tokens
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn

needs_faiss = pytest.mark.skipif(
    faiss_unavailable_reason() is not None, reason=str(faiss_unavailable_reason())
)


def search(index: Index, new: Tensor, keys: Tensor, open_: Tensor) -> Nearest:
    """Search an index for keys that it codes first."""
    codes = index.encode(0, keys)
    return index.nearest(0, new, index.encode(0, new), CodedKeys(keys, codes, open_))


def brute_force(new: Tensor, keys: Tensor, open_: Tensor) -> tuple[Tensor, Tensor]:
    """Compare all pairs."""
    cosine = F.cosine_similarity(new.unsqueeze(3), keys.unsqueeze(2), dim=-1)
    return cosine.masked_fill(~open_.unsqueeze(2), -torch.inf).max(-1)


def some_keys(t: int, d: int = 12, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """New keys, cached keys, and which cached keys a search may find."""
    return randn(2, 3, 7, d, seed=seed), randn(2, 3, t, d, seed=seed + 1), randn(2, 3, t) > -1


@pytest.mark.parametrize("t", [1, 33, KEY_BLOCK + 5])
def test_exact_search_is_brute_force(t: int) -> None:
    new, keys, open_ = some_keys(t)
    found = search(Exact(), new, keys, open_)
    similarity, number = brute_force(new, keys, open_)
    torch.testing.assert_close(found.similarity, similarity)
    assert torch.equal(found.number[similarity > -2], number[similarity > -2])


def test_nothing_is_found_where_nothing_is_open() -> None:
    new, keys, open_ = some_keys(9)
    for index in (Exact(), Int8(12), BucketIndex(RandomProjection(3, 12), 4)):
        found = search(index, new, keys, torch.zeros_like(open_))
        assert (found.similarity == -torch.inf).all()


def test_a_key_without_a_direction_hides_no_other_from_8_bit_search() -> None:
    new, keys, open_ = some_keys(9)
    keys[:, :, 4], open_[:] = 0, True
    found = search(Int8(12), new, keys, open_)
    similarity, _ = brute_force(new, keys, open_)
    torch.testing.assert_close(found.similarity, similarity, rtol=0, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_8_bit_search_is_within_a_hundredth_of_the_best(dtype: torch.dtype) -> None:
    new, keys, open_ = (x.to(dtype) if x.is_floating_point() else x for x in some_keys(500, 48))
    found = search(Int8(48), new, keys, open_)
    best, number = brute_force(new.float(), keys.float(), open_)
    chosen = F.cosine_similarity(
        new.float(),
        keys.float().gather(2, found.number.unsqueeze(-1).expand(-1, -1, -1, 48)),
        dim=-1,
    )
    assert (best - chosen).max() < 0.01
    assert (found.similarity - chosen).abs().max() < 0.01
    assert (found.number == number).float().mean() > 0.9


def test_8_bit_products_are_whole_numbers_on_every_path() -> None:
    a, b = (torch.randint(-127, 128, (2, 3, n, 48)).to(torch.int8) for n in (5, 9))
    assert torch.equal(int8_products(a, b).float(), a.float() @ b.float().transpose(2, 3))


def buckets() -> list[Buckets]:
    """Random projection or k-means."""
    return [RandomProjection(3, 12, bits=4), OnlineKMeans(16)]


@pytest.mark.parametrize("kind", [0, 1])
def test_probing_every_bucket_is_brute_force(kind: int) -> None:
    new, keys, open_ = some_keys(40)
    lsh = RandomProjection(3, 12, bits=1)  # with two buckets, two probes are all
    index = BucketIndex([lsh, OnlineKMeans(16)][kind], probes=[2, 16][kind])
    found = search(index, new, keys, open_)
    similarity, number = brute_force(new, keys, open_)
    torch.testing.assert_close(found.similarity, similarity)
    assert torch.equal(found.number, number)


@pytest.mark.parametrize("gathered", [1, 200, 10**6])
def test_how_many_candidates_are_gathered_at_once_changes_nothing(
    gathered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longtake.attention.ann.buckets.GATHERED", gathered)
    new, keys, open_ = some_keys(60)
    found = search(BucketIndex(OnlineKMeans(16), probes=16), new, keys, open_)
    similarity, number = brute_force(new, keys, open_)
    torch.testing.assert_close(found.similarity, similarity)
    assert torch.equal(found.number, number)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("probes", [1, 3])
def test_a_bucketed_search_is_brute_force_within_the_probed_buckets(kind: int, probes: int) -> None:
    new, keys, open_ = some_keys(60)
    index = BucketIndex(buckets()[kind], probes)
    codes = index.encode(0, keys)
    found = index.nearest(0, new, codes[:, :, :7], CodedKeys(keys, codes, open_))
    probed = index.buckets.probes(0, new, probes)
    shared = (codes[..., 0][:, :, None, :, None] == probed.unsqueeze(3)).any(-1)
    cosine = F.cosine_similarity(new.unsqueeze(3), keys.unsqueeze(2), dim=-1)
    similarity, number = cosine.masked_fill(~(shared & open_.unsqueeze(2)), -torch.inf).max(-1)
    torch.testing.assert_close(found.similarity, similarity)
    some = similarity > -torch.inf
    assert torch.equal(found.number[some], number[some])


def test_more_probes_find_more_of_the_true_nearest() -> None:
    new = randn(1, 3, 200, 12)
    keys = new + 0.5 * randn(1, 3, 200, 12, seed=2)
    open_ = torch.ones(1, 3, 200, dtype=torch.bool)
    _, number = brute_force(new, keys, open_)
    for kind in (0, 1):
        right = []
        for probes in (1, 2, 5):
            found = search(BucketIndex(buckets()[kind], probes), new, keys, open_)
            right.append(float((found.number == number).float().mean()))
        assert right[0] < right[1] < right[2]


def test_a_code_given_once_stays_while_centres_move() -> None:
    means = OnlineKMeans(4)
    index = BucketIndex(means, 1)
    first = index.encode(0, randn(1, 2, 20, 12))
    before = means.centres[0].clone()
    index.encode(0, randn(1, 2, 20, 12, seed=1) + 1)
    assert not torch.equal(before, means.centres[0])
    assert first.shape == (1, 2, 20, 1)
    lsh = RandomProjection(2, 12)
    lsh.learn(0, randn(1, 2, 20, 12))
    same = lsh.assign(0, randn(1, 2, 5, 12, seed=4))
    lsh.learn(0, randn(1, 2, 20, 12, seed=3) + 9)
    assert torch.equal(same, lsh.assign(0, randn(1, 2, 5, 12, seed=4)))


def test_online_centres_are_the_running_mean_of_what_they_were_given() -> None:
    means = OnlineKMeans(2)
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    means.learn(0, torch.stack([a, b]).view(1, 1, 2, 2))
    tilted = torch.tensor([3.0, 4.0]) / 5  # nearer to b
    means.learn(0, tilted.view(1, 1, 1, 2))
    expected = F.normalize(2 * b + tilted, dim=0)  # begun at b, which then came itself
    torch.testing.assert_close(means.centres[0][0, 0, 1], expected)
    torch.testing.assert_close(means.centres[0][0, 0, 0], a)


@needs_faiss
@pytest.mark.parametrize("d", [12, 48])
def test_flat_faiss_equals_brute_force(d: int) -> None:
    new, keys, open_ = some_keys(300, d)
    found = search(Faiss(), new, keys, open_)
    ours = search(Exact(), new, keys, open_)
    torch.testing.assert_close(found.similarity, ours.similarity)
    assert torch.equal(found.number, ours.number)


@needs_faiss
def test_a_persistent_faiss_index_equals_a_rebuilt_one_and_is_built_once() -> None:
    """Slots are overwritten, taken out, and one key lies in two slots."""
    index, keys, open_ = Faiss(), randn(1, 2, 40, 12), torch.ones(1, 2, 40, dtype=torch.bool)
    search(index, keys[:, :, :3], keys, open_)
    built = dict(index._heads)
    for turn in range(6):
        keys[:, :, 5 * turn : 5 * turn + 7] = randn(1, 2, 7, 12, seed=20 + turn)
        open_[:, :, turn] = turn % 2 == 0
        keys[:, :, 39] = keys[:, :, 7]
        new = torch.cat([keys[:, :, 7:8], randn(1, 2, 9, 12, seed=40 + turn)], 2)
        match, rebuilt = search(index, new, keys, open_), search(Faiss(), new, keys, open_)
        torch.testing.assert_close(match.similarity, rebuilt.similarity)
        assert torch.equal(match.number, rebuilt.number)
        assert torch.equal(match.number, search(Exact(), new, keys, open_).number)
    assert index._heads == built and len(built) == 2
    more = torch.ones(1, 2, 30, dtype=torch.bool)
    fewer = search(index, keys[:, :, :3], keys[:, :, :30], more)
    assert fewer.number.max() < 30 and index._heads == built
    index.restore({})
    search(index, keys[:, :, :3], keys, open_)
    assert not {*index._heads.values()} & {*built.values()}


# kernels


def formula(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention with a bias for each key, in float64."""
    logits = q.double() @ k.double().transpose(2, 3) / q.shape[-1] ** 0.5
    return (logits + bias.double().unsqueeze(2)).softmax(-1) @ v.double()


SHAPES = [(1, 1, 1, 1, 8), (2, 3, 5, 37, 12), (1, 2, 64, 130, 48), (1, 2, 3, 1025, 20)]
CLOSE = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("path", [attend_biased, attend_augmented])
def test_a_bias_for_each_key_is_exact(
    shape: tuple[int, ...], dtype: torch.dtype, path: object
) -> None:
    b, n, s, t, d = shape
    q, k, v = (randn(b, n, x, d, seed=i).to(dtype) for i, x in enumerate((s, t, t)))
    bias = torch.randint(1, 500, (b, n, t)).log()
    bias[..., 1::3] = -torch.inf  # empty slots
    expected = formula(q, k, v, bias)
    found = path(q, k, v, bias)  # type: ignore[operator]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=CLOSE[dtype])


@pytest.mark.parametrize("attend", [attend_biased, attend_augmented])
def test_half_precision_does_not_round_the_mass(attend: Callable[..., Tensor]) -> None:
    q, v = torch.zeros(1, 1, 1, 16).bfloat16(), torch.eye(16).bfloat16().view(1, 1, 16, 16)
    mass = torch.arange(300.0, 620.0, 20).view(1, 1, 16)
    weights = attend(q, torch.zeros_like(v), v, mass.log())[0, 0, 0].float()
    expected = (mass / mass.sum()).flatten()
    assert ((weights - expected).abs() / expected).max() < 0.008  # bfloat16 itself: 0.004


def test_mass_in_the_logits_equals_repeating_the_key() -> None:
    q, k, v = (randn(1, 2, x, 16, seed=i) for i, x in enumerate((4, 6, 6)))
    mass = torch.tensor([1, 5, 2, 1, 30, 3])
    repeated = (x.repeat_interleave(mass, 2) for x in (k, v))
    bias = mass.log().expand(1, 2, -1)
    torch.testing.assert_close(
        attend_biased(q, k, v, bias), F.scaled_dot_product_attention(q, *repeated)
    )


@examples(20)
@given(
    t=st.integers(1, 60),
    cut=st.integers(0, 60),
    block=st.integers(1, 70),
)
def test_parts_merged_by_log_sum_exp_are_the_whole(t: int, cut: int, block: int) -> None:
    q, k, v = (randn(1, 2, x, 12, seed=i) for i, x in enumerate((5, t, t)))
    bias = randn(1, 2, t, seed=7)
    bias[..., ::4] = -torch.inf
    whole = attend_part(q, k, v, bias, key_block=block)
    if t > 1:
        torch.testing.assert_close(whole.out.double(), formula(q, k, v, bias), rtol=0, atol=2e-5)
    a, b = (attend_part(q, k[:, :, at], v[:, :, at], bias[..., at])
            for at in (slice(None, cut), slice(cut, None)))  # fmt: skip
    both = merge([a, b])
    torch.testing.assert_close(both.out, whole.out)
    torch.testing.assert_close(both.lse, whole.lse)


SELECTED = [(1, 1, 1, 1, 8, 16, 1), (2, 3, 7, 17, 12, 3, 5), (1, 2, 65, 130, 48, 64, 33),
            (1, 1, 3, 1025, 20, 2, 700)]  # fmt: skip


@pytest.mark.parametrize("shape", SELECTED)
@pytest.mark.parametrize("dtype", CLOSE)
def test_selected_keys_are_exact_in_odd_shapes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    b, n, s, t, d, block, m = shape
    q, k, v = (randn(b, n, x, d, seed=i).to(dtype) for i, x in enumerate((s, t, t)))
    tokens = randn(b, n, -(-s // block), t, seed=3).argsort(-1)[..., :m].clone()
    tokens[..., 1::3] = -1
    bias = randn(b, n, t, seed=4)
    found = attend_tokens(attend_selected, q, k, v, bias, tokens, block)
    for i in range(tokens.shape[2]):
        hidden = torch.full((b, n, t + 1), -torch.inf)
        chosen = tokens[:, :, i].masked_fill(tokens[:, :, i] < 0, t)
        hidden = hidden.scatter(2, chosen, 0.0)[..., :t]
        at = slice(i * block, (i + 1) * block)
        expected = formula(q[:, :, at], k, v, bias + hidden)
        torch.testing.assert_close(found[:, :, at].double(), expected, rtol=0, atol=CLOSE[dtype])


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("interleaved", [True, False])
def test_selected_keys_equal_masking_the_others(*, with_bias: bool, interleaved: bool) -> None:
    q = randn(2, 3, 7, 8)
    k, v = (randn(2, 20, 3, 8, seed=i).transpose(1, 2)[:, :, 2:19] for i in (1, 2))
    if not interleaved:
        k, v = k.contiguous(), v.contiguous()
    tokens = randn(2, 3, 3, 17, seed=3).argsort(-1)[..., :6].clone()  # 3 blocks of 3 queries
    tokens[:, :, 1, 4:] = -1
    bias = randn(2, 3, 17, seed=4)
    seen = torch.zeros(2, 3, 3, 18, dtype=torch.bool).scatter(3, tokens % 18, True)[..., :17]
    logits = q @ k.transpose(2, 3) / 8**0.5 + (bias.unsqueeze(2) if with_bias else 0)
    mask = seen.repeat_interleave(3, 2)[:, :, :7]
    expected = logits.masked_fill(~mask, -torch.inf).softmax(-1) @ v
    found = attend_tokens(attend_selected, q, k, v, bias if with_bias else None, tokens, 3)
    torch.testing.assert_close(found, expected)
