"""The gated delta rule against a loop over tokens, another implementation, and itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longtake.attention.delta.rule import (
    FrameWrites,
    memory_keys,
    memory_queries,
    read,
    states_before,
    write,
)
from longtake.attention.rope import rotation
from longtake.tests.support.tiny_model import randn


def frame_writes(
    frames: int = 9, tokens: int = 6, dtype: torch.dtype = torch.float64
) -> FrameWrites:
    keys = randn(2, frames, 3, tokens, 8, seed=1)
    keys = keys / keys.norm(dim=-1, keepdim=True) * tokens**-0.5
    values = randn(2, frames, 3, tokens, 8, seed=2)
    strength = randn(2, frames, 3, tokens, seed=3).sigmoid()
    decay = torch.exp(-0.3 * randn(2, frames, 3, seed=4).abs())
    return FrameWrites(*(x.to(dtype) for x in (keys, values, strength, decay)))


def by_loop(w: FrameWrites) -> list[Tensor]:
    """The published equation, one head and one token at a time."""
    b, f, n, s, d = w.keys.shape
    state = torch.zeros(b, n, d, d, dtype=w.keys.dtype)
    states = [state.clone()]
    for i in range(f):
        old = state * w.decay[:, i, :, None, None]
        state = old.clone()
        for row in range(b):
            for head in range(n):
                for token in range(s):
                    k, v = w.keys[row, i, head, token], w.values[row, i, head, token]
                    error = w.strength[row, i, head, token] * (v - k @ old[row, head])
                    state[row, head] += torch.outer(k, error)
        states.append(state.clone())
    return states


@pytest.mark.parametrize("chunk", [1, 2, 4, 9, None])
def test_every_form_is_the_published_equation(chunk: int | None) -> None:
    w = frame_writes()
    expected = torch.stack(by_loop(w), 1)
    torch.testing.assert_close(states_before(w, chunk), expected, rtol=1e-10, atol=1e-10)
    state = expected[:, 0]
    for i in range(w.frames):
        state = write(state, w.part(slice(i, i + 1)))
        torch.testing.assert_close(state, expected[:, i + 1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 4, None])
def test_every_form_agrees_in_float32(chunk: int | None) -> None:
    exact = states_before(frame_writes(200), 1)
    ours = states_before(frame_writes(200, dtype=torch.float32), chunk)
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5)


def test_one_token_a_frame_is_the_gated_delta_rule_of_qwen3_next() -> None:
    """Against transformers' own recurrent and chunked forms, which read after the write."""
    module = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    w = frame_writes(70, tokens=1, dtype=torch.float32)
    queries = randn(2, 70, 3, 8, seed=7)
    states = states_before(w, 16)
    ours = torch.einsum("bfnk,bfnkv->bfnv", queries, states[:, 1:])
    inputs = queries * 8**0.5, w.keys.squeeze(3), w.values.squeeze(3)
    gates = {"g": w.decay.log(), "beta": w.strength.squeeze(3)}
    for form in (module.torch_recurrent_gated_delta_rule, module.torch_chunk_gated_delta_rule):
        theirs, last = form(*inputs, **gates, initial_state=None, output_final_state=True)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(states[:, -1], last.float(), rtol=1e-5, atol=1e-5)


def test_without_decay_and_correction_it_is_linear_attention() -> None:
    """Orthogonal keys are never corrected: the state is the sum of outer products."""
    keys = torch.eye(6, dtype=torch.float64).view(1, 3, 1, 2, 6)
    values = randn(1, 3, 1, 2, 6, seed=3).double()
    ones = torch.ones(1, 3, 1, 2, dtype=torch.float64)
    state = states_before(FrameWrites(keys, values, ones, ones[..., 0]))[:, -1]
    torch.testing.assert_close(state, torch.einsum("bfnsk,bfnsv->bnkv", keys, values))


def test_a_frame_written_twice_is_answered_better_and_nothing_grows() -> None:
    w = frame_writes(1)
    again = FrameWrites(*(torch.cat([x] * 400, 1) for x in (w.keys, w.values, w.strength,
                                                            torch.ones_like(w.decay))))  # fmt: skip
    states = states_before(again)
    errors = [(w.values[:, 0] - w.keys[:, 0] @ states[:, i]).norm() for i in (0, 1, 20, 400)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0]
    assert states[:, 400].norm() < 100 * states[:, 1].norm()


def test_a_query_at_a_stored_key_reads_its_value() -> None:
    """Keys of one picture answer by place and content, whatever the time."""
    places = rotation([0], 2, 3, 12)
    k = randn(1, 1, 6, 2, 12, seed=5)
    keys, queries = memory_keys(k, places), memory_queries(k, places)
    assert torch.allclose(keys.square().sum((-1, -2)), torch.ones(1, 1, 2))
    values = randn(1, 1, 2, 6, 12, seed=6)
    keys_at_3 = memory_keys(k.expand(1, 4, 6, 2, 12), places)
    torch.testing.assert_close(keys_at_3[:, 3], keys[:, 0])
    ones = torch.ones(1, 1, 2, 1)
    one = FrameWrites(keys[..., :1, :], values[..., :1, :], ones, ones[..., 0])
    state = write(torch.zeros(1, 2, 12, 12), one).unsqueeze(1)
    torch.testing.assert_close(read(state, queries)[..., 0, :], values[..., 0, :])
    elsewhere = memory_queries(k.roll(1, 2), places)  # the same content in another place
    answer = read(state, elsewhere)[..., 1, :]
    assert not torch.allclose(answer, values[..., 0, :], atol=1e-2)


def test_gradients_pass_through_all_frames() -> None:
    w = frame_writes(4, tokens=2)
    w.keys.requires_grad_()
    states_before(w)[:, -1].sum().backward()
    assert w.keys.grad is not None and (w.keys.grad[:, 0].abs().sum() > 0)
