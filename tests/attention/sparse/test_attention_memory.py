"""The largest tensor of each operation: no table of all queries by all keys ever exists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from longtake.attention.ann.buckets import BucketIndex
from longtake.attention.ann.int8 import Int8
from longtake.attention.ann.lsh import RandomProjection
from longtake.attention.ann.nearest import KEY_BLOCK, Exact
from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import FullHistory
from longtake.attention.kernels import onednn
from longtake.attention.kernels.biased import attend_augmented, attend_biased
from longtake.attention.kernels.blockwise import attend_part
from longtake.attention.kernels.selected import attend_selected
from longtake.attention.kernels.shares import SHARES_AT_ONCE
from longtake.attention.rope import TOKENS_AT_ONCE
from longtake.attention.sparse.blocks import build_blocks, choose_blocks
from longtake.attention.sparse.prompt_attention import SparsePrompt
from longtake.attention.sparse.self_attention import SparseHistory
from longtake.attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from longtake.attention.sparse.stats import SparseStats
from longtake.attention.storage.dense import DENSE
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.attention.storage.shape import CacheShape
from longtake.attention.temp_cache.cache import MergedCache
from longtake.attention.temp_cache.novelty import redundancy
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.nodes.attention.override import AttentionOverride
from longtake.tests.support.attention.kernel_formula import attend_tokens
from longtake.tests.support.tiny_model import randn

HEADS, DIM, FRAME = 2, 8, 300  # tokens of a latent frame
SHAPE = CacheShape(1, 1, HEADS, DIM, 15, 20, 2)
QUERIES, KEYS = 512, 2 * KEY_BLOCK


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As small beside these histories as they are beside those of a model."""
    monkeypatch.setattr(onednn, "LOGITS", 1 << 12)
    monkeypatch.setattr(onednn, "KEYS", 1 << 12)
    monkeypatch.setattr(onednn, "PART", 1 << 9)


class Largest(TorchDispatchMode):
    """Records the elements per head of the largest tensor that any operation allocates."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # fmt: skip
        made = func(*args, **(kwargs or {}))
        given = {_memory(one) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, Tensor) and _memory(one) not in given:
                bytes_ = min(one.untyped_storage().nbytes(), one.numel() * one.element_size())
                self.elements = max(self.elements, bytes_ // 4 // HEADS)
        return made


def _memory(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def largest(run: Callable[[], object]) -> int:
    """The largest tensor that `run` allocates, in elements per head."""
    with torch.inference_mode(), Largest() as seen:
        run()
    return seen.elements


def qkv(queries: int = QUERIES, keys: int = KEYS) -> tuple[Tensor, Tensor, Tensor]:
    """Seeded q, k, v (b, n, ., d)."""
    q, k, v = (randn(1, HEADS, n, DIM, seed=i) for i, n in enumerate((queries, keys, keys)))
    return q, k, v


def test_a_table_of_all_pairs_is_seen() -> None:
    q, k, v = qkv()
    assert largest(lambda: (q @ k.transpose(2, 3)).softmax(-1) @ v) == QUERIES * KEYS


@pytest.mark.parametrize("attend", [attend_biased, attend_augmented])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dense_attention_with_a_bias_holds_no_table(
    attend: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    q, k, v = (x.to(dtype) for x in qkv())
    assert largest(lambda: attend(q, k, v, randn(1, HEADS, KEYS))) <= 2 * DIM * KEYS


def test_attention_in_parts_holds_one_block_of_keys() -> None:
    q, k, v = qkv()
    assert largest(lambda: attend_part(q, k, v)) <= QUERIES * KEYS // 8


def test_selected_keys_are_gathered_block_of_queries_by_block() -> None:
    q, k, v = qkv()
    tokens = torch.arange(0, KEYS, 8).expand(1, HEADS, QUERIES // 64, -1)
    assert largest(lambda: attend_tokens(attend_selected, q, k, v, None, tokens, 64)) <= DIM * KEYS


@pytest.mark.some_cases(3)
@pytest.mark.parametrize(
    "index", [Exact(), Int8(DIM), BucketIndex(RandomProjection(HEADS, DIM), 2)]
)
@pytest.mark.parametrize("storage", [DENSE, Packed(INT8)])
def test_a_merging_commit_never_compares_all_pairs_at_once(index: Any, storage: Any) -> None:
    cache = MergedCache(SHAPE, TempCache(40, 1.01), index, storage=storage)
    kv = [tuple(randn(1, FRAME, HEADS, DIM, seed=i) for i in range(2))]
    for _ in range(29):
        cache.commit(kv)  # type: ignore[arg-type]
    assert cache.rotated_keys.slots_in_use[0] > 2 * KEY_BLOCK
    assert largest(lambda: cache.commit(kv)) <= 1.01 * FRAME * KEY_BLOCK  # type: ignore[arg-type]


@pytest.mark.parametrize("storage", [DENSE, Packed(INT8)])
def test_a_commit_that_keeps_what_differs_never_compares_all_pairs_at_once(storage: Any) -> None:
    cache = MergedCache(SHAPE, TempCache(40, eviction=REDUNDANT), Exact(), storage=storage)
    kv = [tuple(randn(1, FRAME, HEADS, DIM, seed=i) for i in range(2))]
    for _ in range(41):
        cache.commit(kv)  # type: ignore[arg-type]
    assert largest(lambda: cache.commit(kv)) <= FRAME // 2 * KEY_BLOCK  # type: ignore[arg-type]
    q = randn(1, FRAME, HEADS, DIM, seed=9)
    assert largest(lambda: cache.attention(1)(0, q, q, q)) <= 2 * DIM * 42 * FRAME


def test_likeness_in_blocks_is_likeness() -> None:
    q, k, kept = qkv(20, KEYS + 5)
    asking = randn(1, HEADS, 20, DIM, seed=7)
    centre = randn(1, HEADS, 1, DIM, seed=5)
    expected = torch.zeros(1, 20, KEYS + 5)
    for new, cached in ((q - centre, k - centre), (asking, kept)):
        a, b = (x.transpose(1, 2).flatten(2) for x in (new, cached))  # heads in a row
        expected += torch.nn.functional.cosine_similarity(a[:, :, None], b[:, None], dim=-1)
    expected = expected.amax(1).mean(0)
    torch.testing.assert_close(
        redundancy((k, kept), (q, asking), centre), expected, rtol=1e-4, atol=1e-5
    )


def test_sparse_attention_holds_no_table() -> None:
    cache = KVCache(SHAPE, FullHistory(), 40)
    kv = [tuple(randn(1, FRAME, HEADS, DIM, seed=i) for i in range(2))]
    for _ in range(29):
        cache.commit(kv)  # type: ignore[arg-type]
    chosen = SparseSelf(0.1, 0.0, (), 0.5, min_keys=0)
    history = SparseHistory(chosen, SparseStats(), sink_frames=0, min_keys=0)
    q = randn(1, 2 * FRAME, HEADS, DIM, seed=9)
    sparse = history.over(cache.attention(2), [1.0] * 2)
    assert largest(lambda: sparse(0, q, q, q)) <= 2 * FRAME * 38 * FRAME // 16


def sparse_after(frames: int, active: int, floor: float = 0.5) -> Callable[[], SparseHistory]:
    """AnnSA of `frames` history frames; every call of the result is one pass."""
    cache = KVCache(replace(SHAPE, chunk_frames=active), FullHistory(), frames + active)
    for frame in range(frames):
        cache.commit([tuple(randn(1, FRAME, HEADS, DIM, seed=2 * frame + i) for i in range(2))])  # type: ignore[list-item]
    chosen = SparseSelf(0.3, 0.0, (), floor, min_keys=0)
    history = SparseHistory(chosen, SparseStats(), sink_frames=0, min_keys=0)
    q, k, v = (randn(1, active * FRAME, HEADS, DIM, seed=900 + i) for i in range(3))
    sparse = history.over(cache.attention(active), [1.0] * active)

    def run() -> SparseHistory:
        sparse(0, 3 * q, k, v)
        return history

    return run


def override_over(tokens: int) -> Callable[[], object]:
    """AnnSA through the override of a host's model that sees all tokens at once."""
    chosen = Sparsity(SparseSelf(0.3, 0.0, (), 0.5, min_keys=0))
    q, k, v = (randn(1, tokens, HEADS * DIM, seed=i) for i in range(3))
    said = {"sigmas": torch.tensor([0.5]), "sample_sigmas": torch.tensor([1.0, 0.5, 0.0])}
    return lambda: AttentionOverride(chosen)(
        lambda *_, **__: q, 9 * q, k, v, HEADS, transformer_options={**said, "block_index": 1}
    )


@pytest.mark.parametrize(
    "at", [lambda size: sparse_after(10 * size, 5 * size), lambda size: override_over(4096 * size)],
    ids=["rollout", "override"],
)  # fmt: skip
def test_sparse_attention_takes_no_more_than_the_sequence_grows(
    at: Callable[[int], Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not depend on the number of keys that each query block reads."""
    monkeypatch.setattr("longtake.attention.kernels.shares.SHARES_AT_ONCE", 2**12)
    one, two = (largest(at(size)) for size in (1, 2))
    assert two <= 2.1 * one


def test_dense_heads_beside_sparse_ones_copy_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.attention.kernels.shares.SHARES_AT_ONCE", 2**12)
    recall = sparse_after(60, 1, 0.0)().stats.recall
    run = sparse_after(60, 1, recall or 0.0)
    assert run().stats.dense_fallbacks == 1
    assert largest(run) < 0.75 * 60 * FRAME * DIM / HEADS  # as the one head has keys


def test_blocks_are_chosen_for_some_queries_at_a_time() -> None:
    q, k, _ = qkv(4096, 4 * KEYS)
    blocks = build_blocks(k, None, torch.arange(k.shape[2]))
    found = [torch.empty(0)]
    assert largest(lambda: found.append(choose_blocks(q, blocks, 4))) <= SHARES_AT_ONCE
    expected = [choose_blocks(q[:, :, at : at + 64], blocks, 4) for at in range(0, 4096, 64)]
    assert torch.equal(found[-1], torch.cat(expected, 2))


def test_entries_are_rotated_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = MergedCache(SHAPE, TempCache(40, eviction=REDUNDANT), Exact())
    kv = [tuple(randn(1, FRAME, HEADS, DIM, seed=i) for i in range(2))]
    for _ in range(30):
        cache.commit(kv)  # type: ignore[arg-type]
    cache.restore(cache.snapshot())
    assert cache.rotated_keys.slots_in_use[0] > TOKENS_AT_ONCE
    assert largest(lambda: cache.rotated_keys.workspace(0)) <= TOKENS_AT_ONCE * DIM
    whole = cache.rotated_keys.workspace(0)[0].clone()
    monkeypatch.setattr("longtake.attention.temp_cache.rotated_keys.TOKENS_AT_ONCE", 1000)
    cache.restore(cache.snapshot())
    assert torch.equal(cache.rotated_keys.workspace(0)[0], whole)


@pytest.mark.parametrize("prune", [False, True])
def test_attention_to_the_prompt_holds_no_table(*, prune: bool) -> None:
    q, k = randn(1, 4096, HEADS, DIM), randn(1, 512, HEADS, DIM, seed=1)
    prompt = SparsePrompt(SparseCross(prune=prune))
    assert largest(lambda: prompt(0, q, k, k)) <= 4096 * 512 // 16
