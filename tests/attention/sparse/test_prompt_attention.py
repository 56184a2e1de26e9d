"""Attention to merged and pruned prompts against dense attention to the padded prompts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from longtake.attention.ann.lsh import RandomProjection
from longtake.attention.dense import WholeSequence, attend
from longtake.attention.rope import rotation
from longtake.attention.sparse.prompt_attention import (
    SparsePrompt,
    count_shared_buckets,
    merge_padding,
)
from longtake.attention.sparse.settings import SparseCross
from longtake.model.dit import PassOptions, predict, project_text
from longtake.model.memory import peak_bytes
from longtake.tests.support.tiny_model import TINY, embedding, randn, random_dit

PRUNED = SparseCross(prune=True, min_tokens=3, bits=2)


def prompt(words: int, length: int, rows: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values (b, l, n, d) that are identical from token `words` on, two later per row."""
    k, v = (randn(rows, length, 2, 12, seed=i) for i in (1, 2))
    for row in range(rows):
        stop = words + 2 * row
        k[row, stop:], v[row, stop:] = k[row, -1], v[row, -1]
    return k, v


@pytest.mark.parametrize(
    ("words", "length", "rows"), [(5, 24, 1), (0, 9, 1), (7, 8, 1), (3, 20, 3)]
)
def test_merged_padding_is_dense_attention_exactly(words: int, length: int, rows: int) -> None:
    k, v = prompt(words, length, rows)
    q = randn(rows, 11, 2, 12)
    sparse = SparsePrompt(SparseCross())
    torch.testing.assert_close(sparse(0, q, k, v), attend(q, k, v))
    kept = min(words + 2 * (rows - 1) + 1, length)
    assert sparse.share == kept / length
    bias = merge_padding(k, v).bias
    assert (bias is None) == (kept == length)  # every token is one
    mass = torch.ones(rows, 2, kept) if bias is None else bias.exp()
    torch.testing.assert_close(mass.sum(-1), torch.full((rows, 2), float(length)))


class NoFloat64(TorchDispatchMode):
    """A device without float64, such as Apple's GPUs."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if getattr(made, "dtype", None) == torch.float64:
            raise TypeError(f"{func} makes float64, which the device has not")
        return made


@pytest.mark.parametrize("settings", [SparseCross(), PRUNED])
def test_no_float64_is_needed(settings: SparseCross) -> None:
    with NoFloat64():
        SparsePrompt(settings)(0, randn(1, 11, 2, 12), *prompt(5, 24))


def test_the_mass_of_padding_is_exact_to_the_last_place() -> None:
    """The logarithm of every possible run equals float64's."""
    for run in (2, 3, 87, 507, 1024):
        bias = merge_padding(*prompt(1, run + 1)).bias
        assert bias is not None
        exact = torch.tensor(run, dtype=torch.float64).log()
        torch.testing.assert_close(bias[0, 0, -1].double(), exact, rtol=1.2e-7, atol=0)


def test_a_prompt_is_merged_once_and_another_one_in_its_place_is_seen() -> None:
    sparse, q = SparsePrompt(SparseCross()), randn(1, 5, 2, 12)
    first = prompt(5, 24)
    once = sparse._prompt(0, *first)
    assert sparse._prompt(0, *first) is once
    assert sparse._prompt(0, *(x[:, :] for x in first)) is once  # another view of the same
    other = prompt(9, 24)
    torch.testing.assert_close(sparse(0, q, *other), attend(q, *other))
    torch.testing.assert_close(sparse(1, q, *other), attend(q, *other))
    sparse.forget()
    assert sparse._prompt(0, *first) is not once


@pytest.mark.parametrize("words", [12, 29])
def test_pruning_keeps_the_tokens_that_share_a_bucket_with_a_query_and_the_padding(
    words: int,
) -> None:
    k, v = prompt(words, 30)
    q = randn(1, 4, 2, 12, seed=5)
    sparse = SparsePrompt(PRUNED)
    found = sparse(0, q, k, v)
    buckets = RandomProjection(2, 12, 2)
    ours, theirs = (buckets.assign(0, x.transpose(1, 2)) for x in (q, k))
    shared = (theirs.unsqueeze(3) == ours.unsqueeze(2)).any(-1)  # (b, n, l)
    shared[..., words:] = True
    assert shared[..., :words].sum(-1).amin() >= 3 and not shared.all()
    logits = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / 12**0.5
    weights = logits.masked_fill(~shared.unsqueeze(2), -torch.inf).softmax(-1)
    torch.testing.assert_close(found.transpose(1, 2), weights @ v.transpose(1, 2))
    merged = min(words + 1, 30)
    unread = (~shared[..., :words]).sum(-1).float().mean()
    assert sparse.pruned_share == pytest.approx(float(unread) / merged)


@pytest.mark.parametrize("prune", [False, True])
@pytest.mark.parametrize("words", [(5, 20, 12), (0, 24, 1), (23, 3, 3)])
def test_every_rows_padding_stays_with_all_of_its_mass(
    words: tuple[int, ...], *, prune: bool
) -> None:
    """Rows have different lengths, like a prompt and a negative prompt; one needs every token."""
    k, v = (randn(3, 24, 2, 12, seed=i) for i in (1, 2))
    for row, stop in enumerate(words):
        k[row, stop:], v[row, stop:] = k[row, -1], v[row, -1]
    q, sparse = randn(3, 4, 2, 12, seed=5), SparsePrompt(SparseCross(prune, 1, 4))
    found = sparse(0, q, k, v)
    buckets = RandomProjection(2, 12, 4)
    ours, theirs = (buckets.assign(0, x.transpose(1, 2)) for x in (q, k))
    seen = (theirs.unsqueeze(3) == ours.unsqueeze(2)).any(-1)  # (b, n, l)
    for row, stop in enumerate(words):
        seen[row, :, min(stop, 23) :] = True  # the last token always stays
    assert not seen.all()
    logits = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / 12**0.5
    if prune:
        logits = logits.masked_fill(~seen.unsqueeze(2), -torch.inf)
    expected = logits.softmax(-1) @ v.transpose(1, 2)
    torch.testing.assert_close(found.transpose(1, 2), expected)


def test_a_token_that_differs_in_one_small_head_is_no_padding() -> None:
    """Each head has its own softmax, however small its share of the key is."""
    k, v = prompt(5, 24)
    v[:, :, 1] *= 1e-8
    v[:, 12, 1] *= -1
    q = randn(1, 11, 2, 12)
    found, expected = SparsePrompt(SparseCross())(0, q, k, v), attend(q, k, v)
    torch.testing.assert_close(found[:, :, 1], expected[:, :, 1], rtol=1e-3, atol=1e-11)


def test_the_floor_keeps_tokens_that_no_query_shares_a_bucket_with() -> None:
    k, v = prompt(12, 30)
    q = randn(1, 1, 2, 12, seed=5)
    few, all_ = (SparsePrompt(SparseCross(True, n, bits=6)) for n in (1, 12))
    few(0, q, k, v), all_(0, q, k, v)
    assert few.share < all_.share == 12 / 30
    every = SparsePrompt(SparseCross(True, 13, bits=6))
    torch.testing.assert_close(every(0, q, k, v), attend(q, k, v))


def test_queries_are_counted_by_bucket_as_pair_by_pair() -> None:
    buckets = RandomProjection(2, 12, 3)
    q, k = randn(3, 2, 9, 12), randn(3, 2, 7, 12, seed=1)
    pairs = buckets.assign(0, k).unsqueeze(3) == buckets.assign(0, q).unsqueeze(2)
    assert torch.equal(count_shared_buckets(buckets, q, k), pairs.sum(-1).float())


@pytest.mark.parametrize("frames_prompts", [1, 3])
def test_the_model_attends_to_its_prompt_as_it_is_told(frames_prompts: int) -> None:
    dit, x = random_dit(), randn(1, 3, 4, 4, 6)
    context = torch.stack([embedding(i) for i in range(frames_prompts)])[None]
    text = project_text(dit, context)
    t = torch.full((1, 3), 500.0)
    attention = WholeSequence(rotation(range(3), 2, 3, TINY.head_dim))
    expected = predict(dit, x, t, text, attention).velocity
    sparse = SparsePrompt(SparseCross())
    found = predict(dit, x, t, text, attention, PassOptions(to_prompt=sparse)).velocity
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert sparse.share == 4 / 5  # three words, and two of padding
    seen = []
    predict(dit, x, t, text, attention, PassOptions(lambda layer, q, k, v: seen.append(layer) or q))
    assert seen == [0, 1]


def test_a_rehearsal_keeps_prompts_of_other_memory_apart() -> None:
    """Their tensors have no content, and so no address that tells them apart."""

    def bytes_of_prompts(count: int) -> int:
        prompts = [torch.empty(2, 1, 64, 2, 32, device="meta").unbind() for _ in range(count)]
        attention = SparsePrompt(SparseCross(from_tokens=0))

        def attend_all() -> None:
            for keys, values in prompts:
                attention(0, torch.empty(1, 3, 2, 32, device="meta"), keys, values)

        return peak_bytes(attend_all)

    assert bytes_of_prompts(2) - bytes_of_prompts(1) >= 2 * 64 * 2 * 32 * 4
