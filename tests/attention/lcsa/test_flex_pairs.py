"""Chosen pairs of blocks by FlexAttention, and the choice between it and gathering."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from longtake.attention.backends import flex_reason
from longtake.attention.lcsa import flex, gathered, kernel
from longtake.attention.lcsa.choice import BlockPairs, choose_pairs
from longtake.attention.lcsa.grid import BlockGrid
from longtake.model.memory import META
from longtake.tests.support.attention.block_pairs import blocks, check_pairs, random_pairs

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
UNFUSED = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
needs_flex = pytest.mark.skipif(flex_reason(CPU) is not None, reason=str(flex_reason(CPU)))


@UNFUSED
@pytest.mark.parametrize("density", [0.0, 0.2, 0.6, 1.0])
def test_flex_attention_of_whole_blocks_equals_dense_attention_with_a_mask(density: float) -> None:
    """Uncompiled: torch's own dense arithmetic, by the mask's function alone."""
    q, k, v = blocks(6, 3, 16), blocks(18, 4, 16), blocks(18, 5, 16)
    pairs = random_pairs(6, 18, density)
    check_pairs(flex.attend_pairs(q, k, v, pairs, flex_attention), q, k, v, pairs)


def test_flex_attentions_table_of_blocks_is_the_pairs() -> None:
    """What a compiled kernel reads: all blocks are whole, and none is masked."""
    pairs = random_pairs(6, 18, 0.3)
    mask = flex.block_mask(pairs.table, 128)
    assert mask.seq_lengths == (6 * 128, 18 * 128) and mask.BLOCK_SIZE == (128, 128)
    assert mask.full_kv_num_blocks is not None and mask.full_kv_indices is not None
    assert not mask.kv_num_blocks.any()
    for head, row in torch.cartesian_prod(torch.arange(2), torch.arange(6)).tolist():
        count = int(mask.full_kv_num_blocks[0, head, row])
        chosen = mask.full_kv_indices[0, head, row, :count].tolist()
        assert sorted(chosen) == pairs.table[head, row].nonzero().flatten().tolist()


@needs_flex
@pytest.mark.slow
@pytest.mark.timeout(1200)  # it compiles
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's own
@pytest.mark.parametrize(("queries", "keys"), [(6, 18), (4, 4)])
def test_compiled_flex_attention_equals_dense_attention_with_a_mask(
    queries: int, keys: int
) -> None:
    q, k, v = blocks(queries, 3, 16), blocks(keys, 4, 16), blocks(keys, 5, 16)
    for density in (0.2, 0.6, 1.0):
        pairs = random_pairs(queries, keys, density)
        check_pairs(flex.attend_pairs(q, k, v, pairs), q, k, v, pairs)


@pytest.fixture
def fresh_verdicts() -> Iterator[None]:
    kernel.flex_declines.cache_clear()
    yield
    kernel.flex_declines.cache_clear()


@pytest.mark.usefixtures("fresh_verdicts")
def test_what_a_device_declines_is_tried_once_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def fails(*_: object) -> Tensor:
        calls.append(1)
        raise RuntimeError("no ptxas\nand more")

    caplog.set_level(logging.INFO, "longtake")
    monkeypatch.setattr(flex, "attend_pairs", fails)
    monkeypatch.setattr(kernel, "flex_reason", lambda _: None)
    for _ in range(2):
        assert "does not compile here (no ptxas)" in str(
            kernel.flex_declines(CPU, torch.float32, 16)
        )
    assert calls == [1] and caplog.text.count("Blocks of keys are gathered") == 1


@UNFUSED
@pytest.mark.usefixtures("fresh_verdicts")
@pytest.mark.parametrize(("error", "verdict"), [(0.0, None), (1e-3, "gives other values here")])
def test_flex_attention_is_compared_on_the_users_device(
    monkeypatch: pytest.MonkeyPatch, error: float, verdict: str | None
) -> None:
    eager = functools.partial(flex.attend_pairs, kernel=flex_attention)
    monkeypatch.setattr(kernel, "flex_reason", lambda _: None)
    monkeypatch.setattr(flex, "attend_pairs", lambda *inputs: eager(*inputs) + error)
    assert kernel.flex_declines(CPU, torch.float32, 16) == verdict


class _OnCuda:
    """Says that it lies on a GPU."""

    device, dtype, shape = CUDA, torch.bfloat16, (2, 6, 128, 64)


@pytest.mark.parametrize("declines", [None, "is missing"])
def test_a_gpu_reads_by_flex_attention_unless_it_declines(
    monkeypatch: pytest.MonkeyPatch, declines: str | None
) -> None:
    asked: list[object] = []

    def verdict(*place: object) -> str | None:
        asked.append(place)
        return declines

    monkeypatch.setattr(kernel, "flex_declines", verdict)
    monkeypatch.setattr(flex, "attend_pairs", lambda *_: "flex")
    monkeypatch.setattr(gathered, "attend_pairs", lambda *_: "gathered")
    q: Any = _OnCuda()
    assert kernel.attend_pairs(q, q, q, None) == ("gathered" if declines else "flex")  # type: ignore[arg-type, comparison-overlap]
    assert asked == [(CUDA, torch.bfloat16, 64)]


def test_a_processor_and_a_rehearsal_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "flex_declines", lambda *_: pytest.fail("asked"))
    q, k = blocks(6, 1), blocks(12, 2)
    grid = BlockGrid(16, 24)
    pairs = choose_pairs(q, k, grid.near(3), 20)
    assert torch.equal(kernel.attend_pairs(q, k, k, pairs), gathered.attend_pairs(q, k, k, pairs))
    on_meta = BlockPairs(pairs.table.to(META), pairs.most)
    assert kernel.attend_pairs(q.to(META), k.to(META), k.to(META), on_meta).shape == q.shape
