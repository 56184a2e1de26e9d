"""Averaging, scoring and rebuilding policies against plain lists of frames and whole sequences."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.placed_windows import (
    AnchorWindow,
    DistantSink,
    SharedWindow,
    WaveWindow,
)
from longtake.attention.cache.policy import (
    AveragingSink,
    CachePolicy,
    FullHistory,
    MemoryBank,
    MostAttended,
    RebuiltWindow,
    WindowSink,
)
from longtake.attention.history import HistoryCache, open_cache, planned_bytes
from longtake.attention.rope import rotate, rotation
from longtake.attention.storage.codec import AS_COMPUTED
from longtake.attention.storage.dense import DENSE, Storage
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT4, INT8
from longtake.errors import BadInput
from longtake.samplers.guidance import Guidance, cfg, last, temporal
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.settings import OnPromptChange
from longtake.tests.support.attention.caches import (
    SHAPE,
    TOKENS,
    chunk_kv,
    frame_kv,
    naive_attention,
)
from longtake.tests.support.attention.snapshots import through_json
from longtake.tests.support.laws import examples
from longtake.tests.support.samplers.brute_force import CHUNK, Guided, Term, Way, rollout
from longtake.tests.support.samplers.guidance_cases import whole
from longtake.tests.support.samplers.guided_rollouts import CLOSE, DIT, LENGTH, ours, reference
from longtake.tests.support.tiny_model import CHUNKS, randn, settings, timeline

LAYERS, HEADS, WIDTH = SHAPE.layers, SHAPE.heads, SHAPE.head_dim

Frame = list[tuple[Tensor, Tensor]]


@examples(40)
@given(
    window=st.integers(2, 7),
    sink=st.integers(1, 3),
    decay=st.sampled_from([0.0, 0.5, 0.999]),
    frames=st.integers(0, 14),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_an_averaging_sink_is_the_papers_recurrence_over_a_list_of_frames(
    window: int, sink: int, decay: float, frames: int, dtype: torch.dtype
) -> None:
    """Reward Forcing: S <- a S + (1 - a) evicted, un-rotated, and float32 in every storage."""
    policy = AveragingSink(window, min(sink, window - 1), decay)
    shape = dataclasses.replace(SHAPE, dtype=dtype)
    cache = open_cache(shape, policy, DENSE, None, "cpu")
    held: list[tuple[int, Frame]] = []
    for frame in range(frames):
        kv = [(k.to(dtype), v.to(dtype)) for k, v in frame_kv(frame)]
        cache.commit(kv)
        held.append((frame, [(k.float(), v.float()) for k, v in kv]))
        if len(held) > window:
            number, evicted = held.pop(policy.sink_frames)
            into = held[number % policy.sink_frames][1]
            for layer, ((k, v), (old_k, old_v)) in enumerate(zip(into, evicted, strict=True)):
                into[layer] = decay * k + (1 - decay) * old_k, decay * v + (1 - decay) * old_v
    assert sorted(cache.kept_frames) == [number for number, _ in held]
    for slot, number in enumerate(cache.kept_frames):
        at = slice(slot * TOKENS, (slot + 1) * TOKENS)
        for layer, expected in enumerate(dict(held)[number]):
            for kept, wanted in zip(cache.history(layer), expected, strict=True):
                torch.testing.assert_close(kept[:, at].float(), wanted.to(dtype).float())
    assert cache.bytes == planned_bytes(shape, policy, DENSE, None)


def test_the_released_decay_moves_a_bfloat16_sink_at_all() -> None:
    """A step of 0.001 rounds to nothing in bfloat16; the sum of 2,000 steps must not."""
    shape = dataclasses.replace(SHAPE, dtype=torch.bfloat16)
    cache = open_cache(shape, AveragingSink(2, 1, 0.999), DENSE, None, "cpu")
    one = torch.ones(1, TOKENS, HEADS, WIDTH, dtype=torch.bfloat16)
    cache.commit([(one, one)] * LAYERS)
    for _ in range(2001):
        cache.commit([(one * 2, one * 2)] * LAYERS)
    mean = cache.history(0)[0][:, :TOKENS].float()
    torch.testing.assert_close(mean, torch.full_like(mean, 2 - 0.999**2000), rtol=0.01, atol=0)


class NaiveHead:
    """One head of one layer, or all heads if they share: a list of frames and their scores."""

    def __init__(self, policy: MostAttended) -> None:
        self.policy = policy
        self.frames: list[int] = []
        self.worth: dict[int, float | None] = {}

    def measure(self, shares: dict[int, float]) -> None:
        """Update the scores by the share of attention that fell on each frame."""
        for frame, share in shares.items():
            old = self.worth[frame]
            memory = self.policy.memory
            self.worth[frame] = share if old is None else memory * old + (1 - memory) * share

    def take(self, frame: int) -> None:
        """Append a frame; above the window drop the lowest score, unmeasured frames last."""
        self.frames.append(frame)
        self.worth[frame] = None
        if len(self.frames) > self.policy.window_frames:
            old = [f for f in self.frames[:-1] if f >= self.policy.sink_frames]
            worths = [(2.0 if self.worth[f] is None else self.worth[f] or 0.0, f) for f in old]
            self.frames.remove(min(worths)[1])


def of_head(frames: list[int], layer: int, head: int) -> tuple[Tensor, Tensor]:
    """Keys and values (b, s, 1, d) of a list of frames in one head."""
    k, v = chunk_kv(frames)[layer]
    return k[:, :, head : head + 1], v[:, :, head : head + 1]


def naive_head(  # noqa: PLR0913
    frames: list[int], layer: int, head: int, q: Tensor, k: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """One head's attention (b, s, 1, d) by the formula, and each frame's share of it.

    Queries of the active frames attend to the listed frames and to the active ones.
    """
    count, active_frames = len(frames), q.shape[1] // TOKENS
    one = slice(head, head + 1)
    past = of_head(frames, layer, head) if frames else (k[:, :0, one], v[:, :0, one])
    keys, values = (
        torch.cat([old, new[:, :, one]], 1) for old, new in zip(past, (k, v), strict=True)
    )
    now = rotation(range(count, count + active_frames), SHAPE.rows, SHAPE.columns, WIDTH)
    by = rotation(range(count + active_frames), SHAPE.rows, SHAPE.columns, WIDTH)
    queries = rotate(q[:, :, one], now).transpose(1, 2)
    logits = queries @ rotate(keys, by).permute(0, 2, 3, 1) / math.sqrt(WIDTH)
    weights = logits.softmax(-1)  # (b, 1, queries, keys)
    mass = weights.mean((0, 1, 2))[: count * TOKENS].view(count, TOKENS).sum(1)
    return (weights @ values.transpose(1, 2)).transpose(1, 2), mass


def active(frames: int, *, seed: int) -> list[Tensor]:
    """q, k, v (b, s, n, d) of active frames."""
    return [randn(1, frames * TOKENS, HEADS, WIDTH, seed=seed + i) for i in range(3)]


@examples(25)
@given(
    window=st.integers(1, 6),
    sink=st.integers(0, 2),
    chunks=st.lists(st.integers(1, 3), max_size=6),
    per_head=st.booleans(),
    snapshot_at=st.integers(0, 5),
)
def test_the_most_attended_frames_of_every_head_equal_lists_of_frames(
    window: int, sink: int, chunks: list[int], per_head: bool, snapshot_at: int
) -> None:
    """Compare frames, scores and attention of each head with the softmax formula."""
    policy = MostAttended(window, min(sink, window - 1), per_head)
    cache = open_cache(SHAPE, policy, DENSE, 20, "cpu")
    heads = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    naive = {lane: NaiveHead(policy) for lane in heads}
    first = 0
    for index, count in enumerate(chunks):
        if index == snapshot_at:
            other = open_cache(SHAPE, policy, DENSE, 20, "cpu")
            other.restore(through_json(cache.snapshot()))
            cache = other
        q, k, v = active(count, seed=700 + 9 * index)
        attention = cache.attention_of_commit((count,) * count)
        made = [attention(layer, q, k, v) for layer in range(LAYERS)]
        shares = {}
        for layer, head in heads:
            frames = naive[layer, head].frames
            out, mass = naive_head(frames, layer, head, q, k, v)
            found = made[layer][:, :, head : head + 1]
            torch.testing.assert_close(found, out, rtol=1e-4, atol=1e-5)
            shares[layer, head] = dict(zip(frames, mass.tolist(), strict=True))
        together = naive[0, 0].frames
        mean = {f: sum(s.get(f, 0.0) for s in shares.values()) / len(heads) for f in together}
        for lane in heads:
            naive[lane].measure(shares[lane] if per_head else mean)
        cache.commit(chunk_kv(range(first, first + count)))
        for frame in range(first, first + count):
            for lane in heads:
                naive[lane].take(frame)
        first += count
    assert sorted(cache.kept_frames) == naive[0, 0].frames
    assert cache.bytes == planned_bytes(SHAPE, policy, DENSE, 20)


@pytest.mark.parametrize("storage", [DENSE, Packed(INT8, 2), Packed(INT4, 1), Packed(AS_COMPUTED)])
@pytest.mark.parametrize(
    "policy", [WindowSink(5, 1), AveragingSink(5, 2, 0.5), MostAttended(5, 1), FullHistory()]
)
def test_a_flush_leaves_the_frames_told_and_what_follows_is_as_before(
    policy: CachePolicy, storage: Storage
) -> None:
    """After the flush the slots fill again, and the sink still stays."""
    cache = open_cache(SHAPE, policy, storage, 12, "cpu")
    for frame in range(7):
        cache.commit(chunk_kv([frame]))
    before = {frame: stored(cache, frame) for frame in cache.kept_frames}
    sink = [0, 1][: policy.sink_frames]
    cache.retain([*sink, 6])
    assert sorted(cache.kept_frames) == [*sink, 6]
    for frame in cache.kept_frames:
        for kept, was in zip(stored(cache, frame), before[frame], strict=True):
            assert torch.equal(kept, was)
    for frame in range(7, 10):
        cache.commit(chunk_kv([frame]))
    assert sorted(cache.kept_frames)[-3:] == [7, 8, 9]
    assert set(sink) <= set(cache.kept_frames)


def test_a_flush_of_heads_that_differ_leaves_each_of_them_the_frames_told() -> None:
    cache = open_cache(SHAPE, MostAttended(4, 1, per_head=True), DENSE, 20, "cpu")
    for frame in range(9):
        attention = cache.attention_of_commit((1,))
        for layer in range(LAYERS):
            attention(layer, *(5 * x for x in active(1, seed=frame)))
        cache.commit(chunk_kv([frame]))
    cache.retain([0, 8])
    q, k, v = (randn(1, 2 * TOKENS, HEADS, WIDTH, seed=900 + i) for i in range(3))
    expected = naive_attention([0, 8], q, k, v)
    for layer in range(LAYERS):
        out = cache.attention(2)(layer, q, k, v)
        torch.testing.assert_close(out, expected[layer], rtol=1e-5, atol=1e-6)


def stored(cache: HistoryCache, frame: int) -> list[Tensor]:
    """Copies of a held frame's keys and values in every layer."""
    slot = cache.kept_frames.index(frame)
    at = slice(slot * TOKENS, (slot + 1) * TOKENS)
    return [x[:, at].clone() for layer in range(LAYERS) for x in cache.history(layer)]


@pytest.mark.parametrize("window", [3, 4, 7])
def test_a_rebuilt_window_is_a_pass_of_its_clean_latents_alone(window: int) -> None:
    """Krea: a chunk sees the window as a video that begins with it, under the current prompt."""
    expected = reference(
        lambda first: [Term(1.0, range(max(0, first - window), first), recommitted=True)]
    )
    torch.testing.assert_close(ours(Guidance(), cache=RebuiltWindow(window)), expected, **CLOSE)


def test_a_kept_window_is_no_pass_of_its_latents_alone() -> None:
    """Deep keys remember evicted frames; this is why rebuilding differs."""
    kept, rebuilt = (ours(Guidance(), cache=policy) for policy in (WindowSink(4), RebuiltWindow(4)))
    assert not torch.allclose(kept, rebuilt, **CLOSE)


@pytest.mark.parametrize("guidance", [Guidance(), cfg(2.0)], ids=["plain", "cfg"])
def test_re_caching_is_block_causal_passes_of_the_history_under_the_new_prompt(
    guidance: Guidance,
) -> None:
    negative = {"negative": True, "history_negative": True}
    terms = [whole(1.0, recommitted=True)]
    if guidance != Guidance():
        terms = [whole(2.0, recommitted=True), whole(-1.0, **negative)]
    expected = reference(lambda first: [term for part in terms for term in part(first)])
    torch.testing.assert_close(ours(guidance, on_prompt_change="re-cache"), expected, **CLOSE)


def test_re_caching_under_the_same_prompt_changes_nothing() -> None:
    """T8, without eviction: recommitting a frame gives the keys and values it had."""
    one = timeline(0).entries[0]
    again = dataclasses.replace(one, start_frame=3, text="panning left")  # else nothing changes
    prompts = dataclasses.replace(timeline(0), lines=(one, again))
    kept, recached = (
        ours(Guidance(), prompts=prompts, on_prompt_change=at) for at in ("keep", "re-cache")
    )
    assert torch.equal(kept, recached)


def test_after_a_flush_a_chunk_sees_the_newest_frame_alone() -> None:
    prompts = timeline(0, 3)
    guided = Guided(lambda first: [Term(1.0, [2], kept=[0, 1]) if first else Term(1.0, ())])
    expected = rollout(DIT, prompts, Way(CHUNKS.ladder), guided, 6)
    made = ours(Guidance(), prompts=prompts, length=6, on_prompt_change="flush")
    torch.testing.assert_close(made, expected, **CLOSE)


@pytest.mark.each_value
@pytest.mark.parametrize("on_prompt_change", ["keep", "re-cache", "flush"])
@pytest.mark.parametrize(
    "policy",
    [WindowSink(4, 1), AveragingSink(4, 1), MostAttended(4, 1), RebuiltWindow(4, 1),
     MemoryBank(4, 1, 2, 1), DistantSink(4, 1), SharedWindow(4, 1),
     WaveWindow(4, 1), AnchorWindow(4, 1)],
)  # fmt: skip
def test_every_policy_rolls_out_with_every_prompt_switch_and_history_guidance(
    policy: CachePolicy, on_prompt_change: OnPromptChange
) -> None:
    """Every rollout is finite and complete, and a second run gives the same bits."""
    guidance = temporal(0.5, last(2, exact=True))
    first, second = (
        ours(guidance, cache=policy, on_prompt_change=on_prompt_change) for _ in range(2)
    )
    assert first.isfinite().all() and len(first) == LENGTH
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache": AveragingSink(4, 1), "context_noise": ContextNoise(0.3, 4)}, "cannot average"),
        ({"cache": MostAttended(4), "context_noise": ContextNoise(0.3, fresh=True)}, "judged"),
        ({"cache": MostAttended(4, per_head=True), "storage": Packed(INT8)}, "stored as computed"),
        ({"cache": MostAttended(4, per_head=True), "on_prompt_change": "re-cache"}, "re-cached"),
        ({"cache": MostAttended(4, per_head=True), "guidance": temporal(0.5, last(2))}, "by age"),
        ({"cache": DummyHeads(4, 1), "guidance": temporal(0.5, last(2))}, "by age"),
        ({"cache": DummyHeads(4, 1), "on_prompt_change": "re-cache"}, "re-cached"),
    ],
)
def test_what_cannot_be_together_is_refused_with_a_way_out(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        settings(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("sink", "decay"), [(0, 0.9), (2, 1.0), (2, -0.1)])
def test_an_averaging_sink_has_frames_and_a_share(sink: int, decay: float) -> None:
    with pytest.raises(ValueError, match="averaging sink|sink_decay"):
        AveragingSink(4, sink, decay)


def test_chunks_of_the_reference_are_those_of_the_engine() -> None:
    """The reference and the schedule use the same chunk size."""
    assert CHUNKS.chunk_frames == CHUNK
