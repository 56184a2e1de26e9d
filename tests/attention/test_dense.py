"""Dense attention against the written-out softmax, the block-causal mask against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.attention.dense import WholeSequence, attend, block_causal_mask
from longtake.attention.rope import rotate, rotation
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn


@pytest.mark.parametrize("masked", [False, True])
def test_attend_is_softmax_over_scaled_products(*, masked: bool) -> None:
    q, k, v = randn(2, 5, 3, 8), randn(2, 7, 3, 8, seed=1), randn(2, 7, 3, 8, seed=2)
    mask = randn(5, 7, seed=3) > -0.5 if masked else None
    scores = torch.einsum("bsnd,btnd->bnst", q, k) / 8**0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    expected = torch.einsum("bnst,btnd->bsnd", scores.softmax(-1), v)
    torch.testing.assert_close(attend(q, k, v, mask), expected)


@examples(50)
@given(
    frames=st.integers(1, 9),
    tokens=st.integers(1, 4),
    chunk=st.integers(1, 4),
    window=st.none() | st.integers(0, 6),
)
def test_mask_shows_own_and_earlier_chunks_within_the_window(
    frames: int, tokens: int, chunk: int, window: int | None
) -> None:
    mask = block_causal_mask(frames, tokens, chunk, window)
    for i in range(frames * tokens):
        query_chunk = i // tokens // chunk
        for j in range(frames * tokens):
            frame = j // tokens
            recent = window is None or frame >= query_chunk * chunk - window
            assert bool(mask[i, j]) == (frame // chunk <= query_chunk and recent)


def test_whole_sequence_rotates_queries_and_keys_but_not_values() -> None:
    q, k, v = (randn(1, 12, 2, 12, seed=i) for i in range(3))
    by = rotation(range(2), 2, 3, 12)
    expected = attend(rotate(q, by), rotate(k, by), v)
    torch.testing.assert_close(WholeSequence(by)(0, q, k, v), expected, rtol=0, atol=0)
