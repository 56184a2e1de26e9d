"""A window with a memory bank against the authors' lists of frames, and its laws in rollouts."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.cache.by_layer.bank_cache import BankCache
from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.placed_windows import DistantSink
from longtake.attention.cache.policy import MemoryBank, WindowSink
from longtake.attention.cache.prompt_keys import PromptKeys
from longtake.attention.history import open_cache, planned_bytes
from longtake.attention.sparse.settings import SparseSelf, Sparsity
from longtake.attention.storage.codec import AS_COMPUTED, Codec, decode
from longtake.attention.storage.dense import DENSE, Storage
from longtake.attention.storage.packed import Packed, with_placement
from longtake.attention.storage.placement import InMainMemory
from longtake.attention.storage.quantize import FLOAT8, INT4, INT8
from longtake.errors import BadInput
from longtake.model.dit import project_text
from longtake.samplers.branches import Branches
from longtake.samplers.current import CurrentSettings
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import Branch, Guidance, View, cfg, last, temporal
from longtake.samplers.history.plan import cache_plans
from longtake.samplers.loop import Chunk, generate
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import StaggeredSchedule, rolling
from longtake.samplers.settings import OnPromptChange, RolloutSettings
from longtake.stream.rollout.recache import check
from longtake.tests.support.attention.caches import SHAPE, chunk_kv, frame_list
from longtake.tests.support.attention.naive_bank import (
    HEADS,
    LAYERS,
    WIDTH,
    Naive,
    compare,
    prompt_keys,
    random_qkv,
    recommit,
)
from longtake.tests.support.attention.snapshots import through_json
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import (
    TINY,
    randn,
    random_dit,
    settings,
    timeline,
)

MODEL = local_denoiser(random_dit(), TINY)
LONG = 42  # latent frames in chunks of 3: the bank is full after 27
BANK = MemoryBank(5, 2, bank_frames=3, every=2)

STORAGES = [
    DENSE,
    Packed(AS_COMPUTED),
    Packed(AS_COMPUTED, 2),
    with_placement(DENSE, InMainMemory()),
]


@examples(60)
@given(
    sizes=st.tuples(st.integers(2, 7), st.integers(0, 2), st.integers(1, 4), st.integers(1, 3)),
    chunks=st.lists(st.integers(1, 3), min_size=4, max_size=18),
    events=st.dictionaries(st.integers(1, 17), st.sampled_from(["re-cache", "flush", "snapshot"])),
    storage=st.sampled_from(STORAGES),
    hold=st.booleans(),
)
def test_the_bank_of_every_layer_is_the_authors_list_of_frames(
    sizes: tuple[int, int, int, int],
    chunks: list[int],
    events: dict[int, str],
    storage: Storage,
    hold: bool,
) -> None:
    """Frames, duplicates and positions agree through prompt switches, flushes and snapshots."""
    window, sink, bank_frames, every = sizes
    policy = MemoryBank(window, min(sink, window - 1), bank_frames, every)
    shape = dataclasses.replace(SHAPE, hold_rotated=hold)
    cache, naive = opened(shape, policy, storage), Naive(policy)
    done: list[range] = []
    for index, count in enumerate(chunks):
        match events.get(index):
            case "re-cache":
                recommit(cache, naive, done, 40 * index)
            case "flush":
                kept = [*range(policy.sink_frames), cache.committed - 1]
                cache.retain([frame for frame in cache.kept_frames if frame in kept])
                naive.window = {f: kv for f, kv in naive.window.items() if f in kept}
                naive.forget_bank()
            case "snapshot":
                other = opened(shape, policy, storage)
                other.restore(through_json(cache.snapshot()))
                cache = other
        compare(cache, naive, 700 + index)
        first = cache.committed
        frames, words = range(first, first + count), randn(4, HEADS, WIDTH, seed=60 + index // 3)
        made = chunk_kv(frames)
        cache.commit(made, prompt_keys(words))
        naive.commit(frames, made)
        done.append(frames)
        if events.get(index + 1) != "re-cache":
            naive.before_chunk(words)
    assert cache.bytes == planned_bytes(shape, policy, storage, 60)


def opened(shape: Any, policy: MemoryBank, storage: Storage) -> BankCache:
    cache = open_cache(shape, policy, storage, 60, "cpu")
    assert isinstance(cache, BankCache)
    return cache


def fill(policy: MemoryBank, chunks: int, storage: Storage = DENSE, seed: int = 60) -> BankCache:
    """A cache with `chunks` chunks of 3 frames committed under one prompt."""
    cache = opened(SHAPE, policy, storage)
    for first in range(0, 3 * chunks, 3):
        words = randn(4, HEADS, WIDTH, seed=seed)
        cache.commit(chunk_kv(range(first, first + 3)), prompt_keys(words))
    return cache


def test_a_frame_may_be_there_several_times_and_the_newest_candidate_always_is() -> None:
    """As in the authors' code: the newest candidate may be selected, and is appended too."""
    held = [
        fill(MemoryBank(9, 3), chunks, seed=seed)._bank.visible_frames(layer)
        for chunks in range(10, 14)
        for seed in range(60, 70)
        for layer in range(LAYERS)
    ]
    assert all(27 in frames or 36 in frames for frames in held)
    assert {len(set(frames)) for frames in held} == {1, 2, 3}


def test_of_three_equal_scores_the_first_two_count() -> None:
    """The authors' bank scores all frames equally if the prompt's keys were zeroed."""
    assert torch.zeros(3).topk(2).indices.tolist() == [0, 1]


def test_a_row_decides_for_all_of_them() -> None:
    both = open_cache(dataclasses.replace(SHAPE, batch=2), BANK, DENSE, 60, "cpu")
    assert isinstance(both, BankCache)
    words = randn(4, HEADS, WIDTH, seed=60).mean(0)
    for first in range(0, 51, 3):
        others = chunk_kv(range(100 + first, 103 + first))
        made = [
            tuple(torch.cat(rows) for rows in zip(one, other, strict=True))
            for one, other in zip(others, chunk_kv(range(first, first + 3)), strict=True)
        ]
        both.commit(made, PromptKeys((words,) * LAYERS, row=1))  # type: ignore[arg-type]
    alone = fill(BANK, 17)
    for layer in range(LAYERS):
        assert both.rotated_keys.frames(layer) == alone.rotated_keys.frames(layer)


@pytest.mark.parametrize("codec", [INT8, INT4, FLOAT8])
def test_in_few_bits_a_frame_is_coded_once_however_often_it_moves(codec: Codec) -> None:
    cache = fill(BANK, 17, Packed(codec, 2))
    for layer in range(LAYERS):
        seen = cache._bank.visible_frames(layer)
        assert len(seen) == 3
        for cell, frame in enumerate(seen, start=1):
            coded = codec.encode(*chunk_kv([frame])[layer])
            expected = decode(codec, [part[:, None] for part in coded], SHAPE)
            found = cache._store.whole.frame(layer, cell)
            for ours, wanted in zip(found, expected, strict=True):
                assert torch.equal(ours, wanted[:, 0])


def test_denoising_only_reads_window_and_bank() -> None:
    cache = fill(BANK, 9)
    before = through_json(cache.snapshot())
    for seed in range(4):
        attention = cache.attention(3)
        for layer in range(LAYERS):
            attention(layer, *random_qkv(3, seed))
    after = cache.snapshot()
    assert after.facts == before.facts
    assert all(torch.equal(x, before.tensors[name]) for name, x in after.tensors.items())


def test_it_does_not_commit_without_a_prompt() -> None:
    with pytest.raises(ValueError, match="selects frames by the prompt's keys"):
        opened(SHAPE, BANK, DENSE).commit(chunk_kv([0]))


def test_what_is_cut_out_by_age_is_cut_out_of_the_window() -> None:
    """Views of some or all window frames equal those of a window without a bank."""
    bank, window = fill(BANK, 9), KVCache(SHAPE, DistantSink(5, 2), 60)
    for first in range(0, 27, 3):
        window.commit(chunk_kv(range(first, first + 3)))
    assert (bank.kept_frames, bank.positions) == (window.kept_frames, window.positions)
    assert sorted(window.kept_frames) == frame_list(WindowSink(5, 2), 27)
    for layer in range(LAYERS):
        for ours, theirs in zip(bank.history(layer), window.history(layer), strict=True):
            assert torch.equal(ours, theirs)
    s = shot(guidance=temporal(0.5, last(99)))
    branches = Branches(CurrentSettings(s), MODEL)
    branches.claim()
    branches.use(s, 0)
    branches.commit(0, randn(3, 4, 4, 6))
    cut, whole = (branches.history.view_of(Branch(1.0, view=one)) for one in (last(99), View()))
    assert cut.slots == (0, 1, 2) and whole.slots is None


def shot(**changes: Any) -> RolloutSettings:
    return settings(**{"length": LONG, "cache": BANK, "prompts": timeline(0, 12, 33), **changes})


def join_latents(chunks: list[Chunk]) -> Tensor:
    return torch.cat([chunk.latents for chunk in chunks])


@pytest.mark.some_cases(2)
@pytest.mark.each_value
@pytest.mark.parametrize("on_prompt_change", ["keep", "re-cache", "flush"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"guidance": cfg(2.0)}, {"storage": Packed(INT8, 2)},
     {"schedule": rolling(flow_ladder(3, 3.0), 2)}],
    ids=["plain", "cfg", "int8", "rolling"],
)  # fmt: skip
def test_replay_goes_on_bit_for_bit_and_bytes_are_planned(
    changes: dict[str, Any], on_prompt_change: OnPromptChange
) -> None:
    s = shot(**changes, on_prompt_change=on_prompt_change)
    made = list(generate(s, MODEL))
    [plan] = cache_plans(s, TINY, torch.float32)
    assert {chunk.kv_bytes for chunk in made} == {plan.planned_bytes(LONG)}
    for finished in (1, 4, 12):
        assert torch.equal(
            join_latents(list(generate(s, MODEL, made[:finished]))), join_latents(made[finished:])
        )
    without = shot(**changes, on_prompt_change=on_prompt_change, cache=WindowSink(5, 2))
    assert not torch.allclose(join_latents(made), join_latents(list(generate(without, MODEL))))


def test_the_prompt_that_is_followed_is_asked_in_its_own_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under guidance the bank uses the base branch's row, which need not be the first."""
    guidance = dataclasses.replace(cfg(2.0), base="negative")
    s, asked = shot(guidance=guidance, length=18), list[PromptKeys]()
    genuine = BankCache.commit

    def spy(self: BankCache, keys_values: Any, prompt: PromptKeys) -> None:
        asked.append(prompt)
        genuine(self, keys_values, prompt)

    monkeypatch.setattr(BankCache, "commit", spy)
    list(generate(s, MODEL))
    [plan] = cache_plans(s, TINY, torch.float32)
    assert len(asked) == 5  # the last chunk is never committed
    assert [row.prompt for row in plan.rows] == ["positive", "negative"]
    assert {one.row for one in asked} == {1}
    layers = project_text(MODEL.host.claim(0), s.prompts.negative[None, None]).layers
    for one in asked:
        for mean, (k, _) in zip(one.means, layers, strict=True):
            torch.testing.assert_close(mean, k[0, 0].mean(0))
    asked.clear()
    s = shot(guidance=cfg(2.0), length=18)
    list(generate(s, MODEL))
    assert {one.row for one in asked} == {0}
    for chunk, one in enumerate(asked):
        words = s.prompts.at(3 * chunk).embedding
        layers = project_text(MODEL.host.claim(0), words[None, None]).layers
        for mean, (k, _) in zip(one.means, layers, strict=True):
            torch.testing.assert_close(mean, k[0, 0].mean(0))


def test_sparse_attention_to_every_block_is_dense() -> None:
    """This also holds in a layer that sees a frame twice."""
    every_block = Sparsity(SparseSelf(1.0, 0.0, (), 0.0, min_keys=0, recent_frames=1))
    for guidance in (Guidance(), cfg(2.0)):
        dense, sparse = (
            join_latents(list(generate(shot(guidance=guidance, sparsity=one), MODEL)))
            for one in (Sparsity(), every_block)
        )
        torch.testing.assert_close(sparse, dense, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_noise": ContextNoise(0.3, 4)}, "remembered in a bank"),
        ({"sparsity": Sparsity(SparseSelf(order="lsh"))}, "each layer has its own memory bank"),
        ({"schedule": StaggeredSchedule(flow_ladder(3, 3.0), 1, 1, reach=(2, 1))}, "how far back"),
    ],
)
def test_what_cannot_be_together_with_a_bank_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        shot(**changes)


def test_a_bank_is_not_made_anew_from_the_window() -> None:
    with pytest.raises(BadInput, match="remembers frames that have left the window"):
        check("recache", BANK)


@pytest.mark.parametrize(("bank_frames", "every"), [(0, 3), (3, 0)])
def test_a_bank_has_frames(bank_frames: int, every: int) -> None:
    with pytest.raises(ValueError, match="bank_frames and every must be at least 1"):
        MemoryBank(9, 3, bank_frames, every)
