"""Retrieval of far frames equals dense attention over lists of frames chosen one by one."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from longtake.attention.layout import AttentionInputs, attend_inputs
from longtake.attention.retrieval import MAX_QUERIES, frame_estimates, retrieve_frames
from longtake.tests.support.tiny_model import randn

TOKENS, HEADS, WIDTH, OWN = 4, 2, 12, 8


def inputs_of(frames: int, rows: int = 2, seed: int = 0) -> AttentionInputs:
    """Queries and keys of a history of `frames`, and two active frames."""
    keys = frames * TOKENS + OWN
    q, k, v = (randn(rows, HEADS, n, WIDTH, seed=seed + i) for i, n in enumerate((OWN, keys, keys)))
    own = ((slice(0, OWN // 2), OWN // 2), (slice(OWN // 2, OWN), OWN))
    return AttentionInputs(q, k, v, None, frames * TOKENS, own, range(frames), TOKENS)


def brute_force(inputs: AttentionInputs, far: list[int], count: int) -> Tensor:
    """Attention row by row: frames are ranked with loops, then all others are left out."""
    rows = []
    for row in range(len(inputs.q)):
        q, keys = inputs.q[row], inputs.keys[row]
        held = [0.0] * len(inputs.frames)
        for head in range(HEADS):
            for query in q[head]:
                means = [
                    keys[head, f * TOKENS : (f + 1) * TOKENS].mean(0) for f in range(len(held))
                ]
                weights = [math.exp(float(query @ mean) / WIDTH**0.5) for mean in means]
                held = [h + w / sum(weights) for h, w in zip(held, weights, strict=True)]
        chosen = sorted(far, key=lambda frame: -held[frame])[:count]
        read = [f for f in range(len(held)) if f not in far or f in chosen]
        tokens = [f * TOKENS + i for f in read for i in range(TOKENS)]
        at = [*tokens, *range(inputs.past, keys.shape[1])]
        alone = dataclasses.replace(
            inputs, q=q[None], keys=keys[None, :, at], values=inputs.values[row, None][:, :, at],
            past=len(tokens), frames=read,
        )  # fmt: skip
        rows.append(attend_inputs(alone))
    return torch.cat(rows)


@pytest.mark.parametrize(("share", "count"), [(0.25, 2), (0.5, 3), (0.01, 1), (0.84, 6)])
def test_retrieval_equals_a_loop_over_frames(share: float, count: int) -> None:
    inputs, far = inputs_of(9), [1, 2, 3, 4, 5, 6]
    read = retrieve_frames(inputs, [share if frame in far else 1.0 for frame in range(9)])
    assert read.past == (3 + count) * TOKENS
    assert [frame for frame in read.frames if frame >= 0] == [0, 7, 8]
    torch.testing.assert_close(attend_inputs(read), brute_force(inputs, far, count))


def test_a_history_without_far_frames_is_read_as_it_is() -> None:
    inputs = inputs_of(3)
    assert retrieve_frames(inputs, [1.0] * 3) is inputs
    assert retrieve_frames(inputs_of(0), []).past == 0


def test_rows_together_and_one_by_one_read_the_same_frames() -> None:
    inputs, shares = inputs_of(8), [0.4] * 6 + [1.0] * 2
    together = attend_inputs(retrieve_frames(inputs, shares))
    for row in range(2):
        q, keys, values = (x[row : row + 1] for x in (inputs.q, inputs.keys, inputs.values))
        alone = dataclasses.replace(inputs, q=q, keys=keys, values=values)
        torch.testing.assert_close(
            attend_inputs(retrieve_frames(alone, shares)), together[row : row + 1]
        )


def test_a_bias_goes_with_its_keys() -> None:
    inputs = inputs_of(6)
    biased = dataclasses.replace(inputs, bias=randn(2, HEADS, inputs.keys.shape[2], seed=9))
    read = retrieve_frames(biased, [0.5] * 4 + [1.0] * 2)
    assert read.bias is not None
    for row in range(2):
        for key, bias in zip(read.keys[row, 0], read.bias[row, 0], strict=True):
            place = int((biased.keys[row, 0] == key).all(-1).nonzero())
            assert biased.bias is not None and bias == biased.bias[row, 0, place]


def test_a_frame_that_every_query_looks_at_is_retrieved_from_few_queries() -> None:
    inputs = inputs_of(20, rows=1)
    many = torch.cat([inputs.q] * (MAX_QUERIES // 2), 2)
    inputs = dataclasses.replace(inputs, q=many)
    inputs.keys[:, :, 5 * TOKENS : 6 * TOKENS] = 9 * many.mean(2, keepdim=True)
    assert int(frame_estimates(inputs).argmax()) == 5
