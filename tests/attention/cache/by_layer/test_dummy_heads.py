"""Heads that read one part of a window each, against lists of frames and the softmax formula."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.by_layer.head_kinds import DUMMY, SINK, WINDOW, kinds_of_heads
from longtake.attention.history import HistoryCache, open_cache, planned_bytes
from longtake.attention.layout import attend_inputs, key_reader
from longtake.attention.rope import rotate, rotation
from longtake.attention.storage.dense import DENSE
from longtake.tests.support.attention.caches import SHAPE, TOKENS, chunk_kv
from longtake.tests.support.attention.snapshots import through_json
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn

LAYERS, HEADS, WIDTH = SHAPE.layers, SHAPE.heads, SHAPE.head_dim
SHARES = {  # of attention on the sink and on the rest, by layer and head
    "sink": [[0.8, 0.1, 0.05], [0.3, 0.02, 0.4]],
    "window": [[0.1, 0.7, 0.05], [0.4, 0.03, 0.1]],
}


def naive_kinds(sink: list[float], window: list[float], dummies: int) -> list[int]:
    """The kinds of heads one by one, as the paper's program assigns them."""
    parts = [(a / sum(sink), b / sum(window)) for a, b in zip(sink, window, strict=True)]
    by_cost = sorted(range(len(parts)), key=lambda head: max(parts[head]))
    kinds = [WINDOW if a < b else SINK for a, b in parts]
    for head in by_cost[:dummies]:
        kinds[head] = DUMMY
    return kinds


@pytest.mark.parametrize(("share", "dummies"), [(0.0, 0), (0.5, 3), (2 / 3, 4), (1.0, 6)])
def test_heads_are_sorted_as_the_paper_sorts_them(share: float, dummies: int) -> None:
    sink, window = (torch.tensor(SHARES[name], dtype=torch.float64) for name in SHARES)
    expected = naive_kinds(sink.flatten().tolist(), window.flatten().tolist(), dummies)
    assert kinds_of_heads(sink, window, share).flatten().tolist() == expected


def test_without_a_sink_no_head_reads_it() -> None:
    window = torch.tensor(SHARES["window"])
    kinds = kinds_of_heads(torch.zeros_like(window), window, 0.5)
    assert (kinds == SINK).sum() == 0 and (kinds == DUMMY).sum() == 3


def naive_attention(
    held: list[int], seen: list[int], head: int, layer: int, qkv: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, dict[int, float]]:
    """One head's attention (b, s, d) to the frames `seen` of those held and to the active ones.

    Also how much of it falls on each of them.
    """
    q, k, v = (x[:, :, head] for x in qkv)
    past = chunk_kv(held)[layer] if held else (qkv[1][:, :0], qkv[2][:, :0])
    keys, values = (
        torch.cat([old[:, :, head], new], 1) for old, new in zip(past, (k, v), strict=True)
    )
    count = q.shape[1] // TOKENS
    place = SHAPE.rows, SHAPE.columns, WIDTH
    by = rotation(range(len(held) + count), *place)
    now = rotation(range(len(held), len(held) + count), *place)
    turned = rotate(q.unsqueeze(2), now)[:, :, 0], rotate(keys.unsqueeze(2), by)[:, :, 0]
    logits = turned[0] @ turned[1].mT / math.sqrt(WIDTH)
    frames = torch.tensor([*held, *[-1] * count]).repeat_interleave(TOKENS)
    is_read = torch.isin(frames, torch.tensor([*seen, -1]))
    weights = logits.masked_fill(~is_read, -math.inf).softmax(-1)
    mass = {frame: weights.mean((0, 1))[frames == frame].sum().item() for frame in held}
    return weights @ values, mass


def seen_by(kind: int | None, held: list[int], policy: DummyHeads) -> list[int]:
    """The frames that a head of this kind reads; all before the kinds are known."""
    sink = [frame for frame in held if frame < policy.sink_frames]
    if kind is None:
        return held
    newest = held[max(0, len(held) - policy.dummy_frames) :]
    return {SINK: sink, WINDOW: held[len(sink) :], DUMMY: newest}[kind]


def active(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v (b, s, n, d) of active frames, with heads that look at the past unlike each other."""
    q, k, v = (randn(1, count * TOKENS, HEADS, WIDTH, seed=seed + i) for i in range(3))
    return 3 * q, k, v


@examples(25)
@given(
    window=st.integers(2, 6),
    sink=st.integers(0, 2),
    dummy_frames=st.integers(0, 3),
    share=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    chunks=st.lists(st.integers(1, 3), min_size=1, max_size=6),
    snapshot_at=st.integers(0, 5),
)
def test_every_head_reads_its_part_from_the_second_chunk_on(  # noqa: PLR0913
    window: int, sink: int, dummy_frames: int, share: float, chunks: list[int], snapshot_at: int
) -> None:
    """Compare each head with the formula, and the kinds with the shares of that formula."""
    policy = DummyHeads(window, min(sink, window - 1), share, dummy_frames)
    cache = open_cache(SHAPE, policy, DENSE, 20, "cpu")
    lanes = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    kinds: dict[tuple[int, int], int] = {}
    held: list[int] = []
    first = 0
    for index, count in enumerate(chunks):
        if index == snapshot_at:
            other = open_cache(SHAPE, policy, DENSE, 20, "cpu")
            other.restore(through_json(cache.snapshot()))
            cache = other
        qkv = active(count, seed=700 + 9 * index)
        attention = cache.attention_of_commit((count,) * count)
        made = [attention(layer, *qkv) for layer in range(LAYERS)]
        mass = {}
        for layer, head in lanes:
            seen = seen_by(kinds.get((layer, head)), held, policy)
            out, mass[layer, head] = naive_attention(held, seen, head, layer, qkv)
            torch.testing.assert_close(made[layer][:, :, head], out, rtol=1e-4, atol=1e-5)
        if not kinds and len(held) > policy.sink_frames:
            parts = torch.tensor(
                [[mass[lane].get(frame, 0.0) for frame in held] for lane in lanes]
            ).double()
            in_sink = torch.tensor([frame < policy.sink_frames for frame in held])
            on_sink, on_window = parts[:, in_sink].sum(1), parts[:, ~in_sink].sum(1)
            found = kinds_of_heads(on_sink, on_window, share)
            kinds = dict(zip(lanes, found.tolist(), strict=True))
        cache.commit(chunk_kv(range(first, first + count)))
        held = [*held, *range(first, first + count)]
        while len(held) > window:
            del held[policy.sink_frames]
        first += count
    assert sorted(cache.kept_frames) == held
    assert cache.bytes == planned_bytes(SHAPE, policy, DENSE, 20)


def two_chunks(policy: DummyHeads) -> HistoryCache:
    """A cache of two chunks, whose kinds of heads are known."""
    cache = open_cache(SHAPE, policy, DENSE, 20, "cpu")
    for chunk in range(2):
        attention = cache.attention_of_commit((3, 3, 3))
        for layer in range(LAYERS):
            attention(layer, *active(3, seed=50 + chunk))
        cache.commit(chunk_kv(range(3 * chunk, 3 * chunk + 3)))
    return cache


def test_who_gathers_the_inputs_finds_what_no_head_reads_hidden() -> None:
    """Memory rules and sparse attention compute with the inputs of all heads together."""
    attention = key_reader(two_chunks(DummyHeads(5, 1)).attention(3))
    for layer in range(LAYERS):
        q, k, v = active(3, seed=90)
        apart = attention(layer, q, k, v)
        together = attend_inputs(attention.gather(layer, q, k, v)).transpose(1, 2)
        torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-6)


def test_a_cleared_history_measures_its_heads_again() -> None:
    cache = two_chunks(DummyHeads(5, 1))
    assert "kinds" in cache.snapshot().tensors
    cache.clear()
    assert "kinds" not in cache.snapshot().tensors


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"dummy_share": 1.5}, "from 0 to 1; got 1.5"), ({"dummy_frames": -1}, "at least 0; got -1")],
)
def test_numbers_that_cannot_be_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DummyHeads(5, 1, **changes)  # type: ignore[arg-type]
