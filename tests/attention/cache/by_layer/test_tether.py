"""Memories by attention and diversity against lists of frames, and half a window as sink."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.policy import WindowSink
from longtake.attention.dense import attend
from longtake.attention.history import open_cache, planned_bytes
from longtake.attention.rope import rotate, rotation
from longtake.attention.storage.dense import DENSE
from longtake.tests.support.attention.caches import SHAPE, TOKENS, chunk_kv, frame_kv
from longtake.tests.support.attention.snapshots import through_json
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn

LAYERS, HEADS, WIDTH = SHAPE.layers, SHAPE.heads, SHAPE.head_dim
CLOSE = {"rtol": 1e-4, "atol": 1e-5}

Pair = tuple[Tensor, Tensor]


class NaiveLayer:
    """The frames of one layer in lists: `held` has keys and values (1, s, n, d) by frame."""

    def __init__(self, policy: TetherCache) -> None:
        self.policy = policy
        self.held: dict[int, Pair] = {}

    @property
    def waiting(self) -> list[int]:
        """Beyond the window: the oldest of those that came after the memories."""
        frames, p = sorted(self.held), self.policy
        behind = frames[p.sink_frames + p.memories :]
        return behind[: max(0, len(frames) - p.window_frames)]

    @property
    def seen(self) -> list[int]:
        """What a pass of denoising reads."""
        return [frame for frame in sorted(self.held) if frame not in self.waiting]

    def judge(self, q: Tensor) -> None:
        """Score every candidate by all pairs of queries and keys, and drop the lowest."""
        p, waiting = self.policy, self.waiting
        if not waiting:
            return
        frames = sorted(self.held)
        old = frames[p.sink_frames : p.sink_frames + p.memories]
        candidates = [*old, *waiting]
        logits = [float((q[0, :, None] * self.held[f][0][0]).double().sum(-1).mean())
                  / math.sqrt(WIDTH) for f in candidates]  # fmt: skip
        total = sum(map(math.exp, logits))
        mass = [math.exp(logit) / total for logit in logits]
        sigma = max(1.0, 0.5 * (candidates[-1] - candidates[0] + 1))
        worths = []
        for i, frame in enumerate(candidates):
            near = [
                m * math.exp(-abs(frame - other) / sigma)
                for j, (other, m) in enumerate(zip(candidates, mass, strict=True))
                if j != i
            ]
            worths.append((mass[i] + p.diversity * max(0.0, 1 - max(near, default=0.0)), frame))
        chosen = [frame for _, frame in sorted(worths, key=lambda one: -one[0])[: p.memories]]
        trusted = [self.held[f] for f in [*frames[: p.sink_frames], *old]]
        for frame in candidates:
            if frame not in chosen:
                del self.held[frame]
            elif frame in waiting and trusted:
                pool = [torch.cat([pair[i] for pair in trusted], 1)[0] for i in range(2)]
                own = self.held[frame]
                self.held[frame] = self.aligned(own[0], pool[0]), self.aligned(own[1], pool[1])

    def aligned(self, x: Tensor, pool: Tensor) -> Tensor:
        """One frame's keys or values moved toward those of the pool (s, n, d), head by head."""
        made = x.clone()
        for head in range(HEADS):
            for channel in range(WIDTH):
                mine, theirs = x[0, :, head, channel].double(), pool[:, head, channel].double()
                unit = (mine - mine.mean()) / mine.std(correction=0)
                moved = unit * theirs.std(correction=0) + theirs.mean()
                tau = self.policy.alignment
                made[0, :, head, channel] = (1 - tau) * mine + tau * moved
        return made

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Of active frames to the frames seen, each at its rank, and to themselves."""
        count, active = len(self.seen), q.shape[1] // TOKENS
        past = [self.held[frame] for frame in self.seen]
        keys = torch.cat([*(pair[0] for pair in past), k], 1)
        values = torch.cat([*(pair[1] for pair in past), v], 1)
        by, now = (rotation(range(first, count + active), SHAPE.rows, SHAPE.columns, WIDTH)
                   for first in (0, count))  # fmt: skip
        return attend(rotate(q, now), rotate(keys, by), values)


def compare(cache: Any, attention: Any, naive: list[NaiveLayer], qkv: list[Tensor]) -> None:
    for layer, one in enumerate(naive):
        torch.testing.assert_close(attention(layer, *qkv), one.attention(*qkv), **CLOSE)


@examples(30)
@given(
    sizes=st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(1, 3)),
    strengths=st.tuples(st.sampled_from([0.0, 0.35, 3.0]), st.sampled_from([0.0, 0.35, 1.0])),
    chunks=st.lists(st.integers(1, 3), min_size=3, max_size=9),
    events=st.dictionaries(st.integers(1, 8), st.sampled_from(["snapshot", "flush"])),
    hold=st.booleans(),
)
def test_every_layer_remembers_the_frames_that_lists_would(
    sizes: tuple[int, int, int],
    strengths: tuple[float, float],
    chunks: list[int],
    events: dict[int, str],
    hold: bool,
) -> None:
    """Denoising does not see frames that wait; the pass of a commit sees those that remain."""
    sink, memories, newest = sizes
    policy = TetherCache(sink + memories + newest, sink, newest, *strengths)
    shape = dataclasses.replace(SHAPE, hold_rotated=hold)
    cache = open_cache(shape, policy, DENSE, None, "cpu")
    naive = [NaiveLayer(policy) for _ in range(LAYERS)]
    first = 0
    for index, count in enumerate(chunks):
        if events.get(index) == "snapshot":
            other = open_cache(shape, policy, DENSE, None, "cpu")
            other.restore(through_json(cache.snapshot()))
            cache = other
        if events.get(index) == "flush":
            stay = sorted({*range(sink), first - 1} & {*naive[0].held})
            cache.retain(stay)
            for one in naive:
                one.held = {frame: one.held[frame] for frame in stay}
        qkv = [4 * randn(1, count * TOKENS, HEADS, WIDTH, seed=50 * index + i) for i in range(3)]
        compare(cache, cache.attention(count), naive, qkv)
        attention = cache.attention_of_commit((count,) * count)
        for one in naive:
            one.judge(qkv[0])
        compare(cache, attention, naive, qkv)
        made = chunk_kv(range(first, first + count))
        cache.commit(made)
        for layer, one in enumerate(naive):
            for frame in range(first, first + count):
                one.held[frame] = frame_kv(frame)[layer]
        first += count
        assert cache.bytes == planned_bytes(shape, policy, DENSE, None)
        assert len(cache.kept_frames) == len(naive[0].seen)


def test_the_pass_of_a_commit_writes_nothing() -> None:
    """Only the commit itself does, as a run may stop between them."""
    cache = open_cache(SHAPE, TetherCache(4, 1), DENSE, 20, "cpu")
    for first in (0, 3):
        cache.commit(chunk_kv(range(first, first + 3)))
    before = through_json(cache.snapshot())
    for attention in (cache.attention_of_commit((3, 3, 3)), cache.attention(3)):
        for layer in range(LAYERS):
            attention(layer, *(randn(1, 3 * TOKENS, HEADS, WIDTH, seed=i) for i in range(3)))
    after = cache.snapshot()
    assert after.facts == before.facts
    assert all(torch.equal(x, before.tensors[name]) for name, x in after.tensors.items())


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"layers": [[0, 1, 2], [0, 1]]}, "as many latent frames"),
        ({"layers": [[0, 1, 1], [0, 1, 2]]}, "as many latent frames"),
        ({"layers": [[*range(9)], [*range(9)]]}, "does not fit"),
        ({"waiting": 7}, "does not fit"),
    ],
)
def test_a_snapshot_of_other_frames_is_refused(facts: dict[str, Any], message: str) -> None:
    cache = open_cache(SHAPE, TetherCache(4, 1), DENSE, 20, "cpu")
    cache.commit(chunk_kv([0, 1, 2]))
    good = cache.snapshot()
    with pytest.raises(ValueError, match=message):
        cache.restore(dataclasses.replace(good, facts={**good.facts, **facts}))


@pytest.mark.parametrize(
    "values", [(4, 3, 2), (4, 1, 0), (4, 1, 1, -0.1), (4, 1, 1, 0.1, 1.1), (4, 1, 1, math.inf)]
)
def test_memories_that_cannot_be_are_refused(values: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="newest_frames|diversity"):
        TetherCache(*values)


def test_a_shorter_window_has_fewer_memories_and_a_sink_if_there_is_room() -> None:
    assert TetherCache(9, 2, 3).within(4) == TetherCache(4, 2, 2)
    assert TetherCache(4, 0, 1).with_first() == TetherCache(4, 1, 1)
    assert TetherCache(4, 0, 4).with_first() == TetherCache(4, 0, 4)
    assert TetherCache(4, 2, 1).with_first() == TetherCache(4, 2, 1)


def test_a_deep_sink_is_turned_to_the_window_as_deep_forcing_turns_it() -> None:
    """Keys that were rotated in the shot, turned on by the gap in time (its equation 6)."""
    cache = open_cache(SHAPE, WindowSink(8, 4), DENSE, 60, "cpu")
    for frame in range(40):
        cache.commit(chunk_kv([frame]))
    frames = [*range(4), *range(36, 40)]
    gap = 36 - 3 - 1  # the sink's last frame then is next to the first of the tail
    q, k, v = (randn(1, 2 * TOKENS, HEADS, WIDTH, seed=i) for i in range(3))
    grid = SHAPE.rows, SHAPE.columns, WIDTH
    for layer in range(LAYERS):
        past = [frame_kv(frame)[layer] for frame in frames]
        turns = [rotation([frame], *grid) for frame in frames]
        keys = [rotate(pair[0], by) for pair, by in zip(past, turns, strict=True)]
        keys[:4] = [turn_in_time(key, gap) for key in keys[:4]]
        now = rotation([40, 41], *grid)
        values = torch.cat([*(pair[1] for pair in past), v], 1)
        expected = attend(rotate(q, now), torch.cat([*keys, rotate(k, now)], 1), values)
        torch.testing.assert_close(cache.attention(2)(layer, q, k, v), expected, **CLOSE)


def turn_in_time(keys: Tensor, frames: int) -> Tensor:
    """Rotated keys (b, s, n, d), their temporal pairs turned on by so many latent frames."""
    part = WIDTH - 4 * (WIDTH // 6)
    frequencies = 10_000.0 ** (-torch.arange(0, part, 2, dtype=torch.float64) / part)
    pairs = torch.view_as_complex(keys[..., :part].double().unflatten(-1, (-1, 2)).contiguous())
    turned = torch.view_as_real(pairs * torch.exp(1j * frames * frequencies)).flatten(-2)
    return torch.cat([turned.to(keys.dtype), keys[..., part:]], -1)
