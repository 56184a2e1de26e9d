"""A rehearsal splits as many keys from a history as a run does, without numbering them."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.attention.layout import AttentionInputs
from longtake.attention.sparse.block_layout import split_frames
from longtake.tests.support.laws import examples


@examples(40)
@given(
    st.lists(st.integers(-1, 12), min_size=1, max_size=9, unique=True),
    st.integers(1, 5), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3),
)  # fmt: skip
def test_a_rehearsal_counts_the_keys_that_a_run_numbers(
    frames: list[int], tokens: int, missing: int, sink: int, recent: int
) -> None:
    past = max(0, len(frames) * tokens - missing)

    def split(device: str) -> tuple[int, int]:
        keys = torch.empty(1, 1, past + tokens, 2, device=device)
        parts = ((slice(0, tokens), tokens),)
        inputs = AttentionInputs(keys[:, :, past:], keys, keys, None, past, parts, frames, tokens)
        always, rest = split_frames(inputs, sink, recent)
        return len(always), len(rest)

    assert split("meta") == split("cpu")
