"""Windows whose frames are at other places than their ranks, against plain lists of frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.cache.placed_windows import (
    AnchorWindow,
    DistantSink,
    SharedWindow,
    WaveWindow,
)
from longtake.attention.cache.policy import WindowSink
from longtake.attention.dense import attend
from longtake.attention.history import open_cache
from longtake.attention.layout import HistoryAttention
from longtake.attention.rope import rotate, rotation
from longtake.attention.sparse.settings import SparseSelf, Sparsity
from longtake.attention.storage.dense import DENSE
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.history.plan import cache_plans
from longtake.samplers.loop import Chunk, Loop, generate
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import NoiseSchedule, rolling
from longtake.tests.support.attention.caches import SHAPE, chunk_kv, frame_list
from longtake.tests.support.attention.snapshots import through_json
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import (
    CHUNKS,
    TINY,
    randn,
    random_dit,
    settings,
    timeline,
)

ACTIVE = 2
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def active_qkv() -> list[Tensor]:
    """Queries, keys and values of the active frames."""
    return [randn(1, ACTIVE * SHAPE.frame_tokens, 2, 12, seed=900 + i) for i in range(3)]


def reference(frames: list[int], places: list[int], now: list[int]) -> list[Tensor]:
    """Attention in every layer of active frames at places `now` to `frames` at `places`."""
    q, k, v = active_qkv()
    by, ahead = (rotation(at, SHAPE.rows, SHAPE.columns, SHAPE.head_dim) for at in (places, now))
    outputs = []
    for past_k, past_v in chunk_kv(frames) if frames else [(k[:, :0], v[:, :0])] * SHAPE.layers:
        keys = torch.cat([rotate(past_k, by) if frames else past_k, rotate(k, ahead)], 1)
        outputs.append(attend(rotate(q, ahead), keys, torch.cat([past_v, v], 1)))
    return outputs


def assert_attention(attention: HistoryAttention, outputs: list[Tensor]) -> None:
    """Every layer attends as `outputs`."""
    for layer, output in enumerate(outputs):
        torch.testing.assert_close(attention(layer, *active_qkv()), output, **CLOSE)


@examples(40)
@given(window=st.integers(2, 7), sink=st.integers(1, 3), frames=st.integers(0, 14))
def test_a_distant_sink_stays_at_its_own_place(window: int, sink: int, frames: int) -> None:
    """Places are the frames' numbers, however many between them have left."""
    policy = DistantSink(window, min(sink, window - 1))
    cache = open_cache(SHAPE, policy, DENSE, None, "cpu")
    for frame in range(frames):
        cache.commit(chunk_kv([frame]))
    held = frame_list(policy, frames)
    assert_attention(cache.attention(ACTIVE), reference(held, held, [frames, frames + 1]))


@examples(40)
@given(window=st.integers(2, 9), sink=st.integers(0, 3), frames=st.integers(0, 14))
def test_a_shared_window_has_room_for_active_frames_too(
    window: int, sink: int, frames: int
) -> None:
    """Denoising sees sink and newest frames side by side; a commit sees the newest alone."""
    policy = SharedWindow(window, min(sink, window - 1))
    cache = open_cache(SHAPE, policy, DENSE, None, "cpu")
    for frame in range(frames):
        cache.commit(chunk_kv([frame]))
    held, sink = frame_list(policy, frames), policy.sink_frames
    rest, room = held[sink:], max(0, window - sink - ACTIVE)
    seen = held[:sink] + rest[max(0, len(rest) - room) :]
    places = [*range(len(seen) + ACTIVE)]
    assert_attention(cache.attention(ACTIVE), reference(seen, places[:-ACTIVE], places[-ACTIVE:]))
    newest = [frame for frame in held if frame >= frames + ACTIVE - window]
    at = [*newest, frames, frames + 1]  # a run without a gap
    assert_attention(
        cache.attention_of_commit((ACTIVE,) * ACTIVE), reference(newest, newest, at[-ACTIVE:])
    )


@examples(40)
@given(window=st.integers(4, 9), sink=st.integers(0, 3), frames=st.integers(0, 14))
def test_a_wave_windows_sink_has_the_places_of_the_oldest_behind_it(
    window: int, sink: int, frames: int
) -> None:
    """While denoising; a commit sees the sink just before the newest frames, and fewer of these."""
    policy = WaveWindow(window, sink)
    cache = open_cache(SHAPE, policy, DENSE, None, "cpu")
    for frame in range(frames):
        cache.commit(chunk_kv([frame]))
    held, now = frame_list(policy, frames), [frames, frames + 1]
    first, rest = held[:sink], held[sink:]
    newest = rest[max(0, len(rest) - max(0, window - sink - ACTIVE)) :]
    after = [frames - len(newest) + i for i in range(len(newest))]
    begins = frames - max(len(first), len(newest))
    places = [begins + i for i in range(len(first))] + after
    assert_attention(cache.attention(ACTIVE), reference(first + newest, places, now))
    committed = first + rest[max(0, len(rest) - max(0, window - 2 * sink - ACTIVE)) :]
    in_a_row = [frames - len(committed) + i for i in range(len(committed))]
    commit = cache.attention_of_commit((ACTIVE,) * ACTIVE)
    assert_attention(commit, reference(committed, in_a_row, now))


@examples(40)
@given(window=st.integers(1, 7), sink=st.integers(0, 3), frames=st.integers(0, 14))
def test_an_anchor_windows_sink_is_near_for_denoising_and_far_for_a_commit(
    window: int, sink: int, frames: int
) -> None:
    """Both see all that is held, beside any number of active frames."""
    policy = AnchorWindow(window, min(sink, window - 1))
    cache = open_cache(SHAPE, policy, DENSE, None, "cpu")
    for frame in range(frames):
        cache.commit(chunk_kv([frame]))
    held, now = frame_list(policy, frames), [frames, frames + 1]
    near = [frames - len(held) + i for i in range(len(held))]
    assert_attention(cache.attention(ACTIVE), reference(held, near, now))
    commit = cache.attention_of_commit((ACTIVE,) * ACTIVE)
    assert_attention(commit, reference(held, held, now))


def test_a_window_that_holds_all_is_the_same_wherever_its_sink_would_be() -> None:
    """Until something is evicted, all four are one."""
    outputs = []
    for kind in (WindowSink, DistantSink, SharedWindow, AnchorWindow):
        cache = open_cache(SHAPE, kind(9, 2), DENSE, None, "cpu")
        cache.commit(chunk_kv(range(7)))
        outputs.append(cache.attention(ACTIVE)(0, *active_qkv()))
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0], **CLOSE)


@pytest.mark.parametrize("frames", [[0, 1, 8, 9], [0, 1, 2, 3]])
def test_frames_committed_again_keep_their_places(frames: list[int]) -> None:
    """A re-cached history is given the numbers that its frames have in the rollout."""
    cache = open_cache(SHAPE, DistantSink(4, 2), DENSE, None, "cpu")
    cache.commit(chunk_kv(range(10)))
    cache.restart(frames)
    for first in range(0, 4, 2):
        cache.commit(chunk_kv(frames[first : first + 2]))
    now = frames[-1] + 1
    assert sorted(cache.kept_frames) == frames and cache.committed == now
    assert_attention(cache.attention(ACTIVE), reference(frames, frames, [now, now + 1]))


def test_frames_with_a_gap_are_committed_again_with_their_gap() -> None:
    """A sink of one frame and a window that begins within the same chunk."""
    cache = open_cache(SHAPE, DistantSink(3, 1), DENSE, None, "cpu")
    cache.restart([0, 2, 3])
    attention = cache.attention_of_commit((ACTIVE,) * ACTIVE)
    assert_attention(attention, reference([], [], [0, 2]))


ROLLING = rolling(flow_ladder(3, 3.0), 2)
MODEL = local_denoiser(random_dit(), TINY)


@pytest.mark.some_cases(3)
@pytest.mark.each_value
@pytest.mark.parametrize(
    "policy", [DistantSink(6, 2), SharedWindow(8, 2), WaveWindow(8, 2), AnchorWindow(6, 2)]
)
@pytest.mark.parametrize(
    "changes",
    [{}, {"guidance": cfg(2.0)}, {"schedule": ROLLING}, {"storage": Packed(INT8, 2)},
     {"on_prompt_change": "re-cache"}, {"context_noise": ContextNoise(0.3, 4)}],
    ids=["plain", "cfg", "rolling", "int8", "re-cache", "rebuilt"],
)  # fmt: skip
def test_a_rollout_goes_on_bit_for_bit_in_planned_bytes(
    policy: WindowSink, changes: dict[str, Any]
) -> None:
    """By replay and by a snapshot; and its places make another video than a plain window's."""
    s = settings(length=18, cache=policy, prompts=timeline(0, 9), **{"schedule": CHUNKS, **changes})
    loop, snapshots, chunks = Loop(s, MODEL), [], []
    for chunk in loop.chunks():
        chunks.append(chunk)
        if chunk.index in (2, 4) and loop.settled:
            snapshots.append((loop.index, loop.snapshot()))
    [plan] = cache_plans(s, TINY, torch.float32)
    assert {chunk.kv_bytes for chunk in chunks} == {plan.planned_bytes(18)}
    for finished in (1, 4):
        replayed = list(generate(s, MODEL, chunks[:finished]))
        assert torch.equal(join(replayed), join(chunks[finished:]))
    assert snapshots
    for index, snapshot in snapshots:
        again = Loop(s, MODEL)
        again.restore(through_json(snapshot))
        assert torch.equal(join(again.chunks(chunks[index : index + 1])), join(chunks[index + 1 :]))
    plain = replace(s, cache=WindowSink(policy.window_frames, policy.sink_frames))
    assert not torch.allclose(join(chunks), join(generate(plain, MODEL)))


@pytest.mark.parametrize("order", ["time", "lsh"])
@pytest.mark.parametrize("schedule", [CHUNKS, ROLLING], ids=["chunks", "rolling"])
@pytest.mark.parametrize("policy", [SharedWindow(8, 2), WaveWindow(8, 2), AnchorWindow(6, 2)])
def test_sparse_attention_to_every_block_of_a_shared_window_is_dense(
    policy: SharedWindow, schedule: NoiseSchedule, order: str
) -> None:
    """Codes of keys follow the frames that a pass sees."""
    sparse = Sparsity(SparseSelf(1.0, 0.0, (), 0.0, min_keys=0, recent_frames=1, order=order))
    s = settings(length=18, cache=policy, schedule=schedule)
    dense, every_block = (
        join(generate(replace(s, sparsity=one), MODEL)) for one in (Sparsity(), sparse)
    )
    torch.testing.assert_close(every_block, dense, rtol=1e-3, atol=1e-3)


def join(chunks: Iterable[Chunk]) -> Tensor:
    """Their latents in a row."""
    return torch.cat([chunk.latents for chunk in chunks])
