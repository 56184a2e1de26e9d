"""The speed bench of attention: its arithmetic and claims, and its smallest part run."""

from __future__ import annotations

import pytest
import torch

from longtake.attention.cache_shape import CacheShape
from longtake.attention.history_cache import planned_bytes
from longtake.attention.kv_storage import DENSE
from longtake.attention.temp_policy import ALIKE, TempCache
from longtake.benchmarks import attention
from longtake.benchmarks._attention_speed import CASES, WINDOW, SpeedBench, equal_memory
from longtake.benchmarks._device import peak_in_work
from longtake.benchmarks._report import Results

SHAPE = CacheShape(6, 1, 4, 48, 8, 8, 3)


def test_equal_memory_is_the_most_entries_that_fit_the_windows_bytes() -> None:
    most, frames = planned_bytes(SHAPE, WINDOW, DENSE, None), equal_memory(SHAPE)
    wanted = [TempCache(frames + i, gives_way=ALIKE) for i in (0, 1)]
    taken = [planned_bytes(SHAPE, policy, DENSE, None) for policy in wanted]
    assert taken[0] <= most < taken[1]


def test_the_slope_is_the_growth_by_1000_frames_over_the_median() -> None:
    assert attention.slope((1000, 2000, 3000), (2.0, 2.2, 2.4)) == pytest.approx(0.2 / 2.2)


def test_claims_are_made_of_the_cases_that_were_run() -> None:
    plan = attention.Plan((64, 2048), 1, cases=tuple(CASES))
    results = Results("attention")
    for history in plan.histories:
        for name in plan.at(history):
            seconds = 10.0 if name == "dense" and history == 2048 else 1.0
            results.samples[attention.label(name, history)] = [seconds] * (3 + (name != "dense"))
            results.bytes[f"KV cache: {attention.label(name, history)}"] = 100
            grown = history if name == "all" else 0
            results.bytes[f"in work: {attention.label(name, history)}"] = 10_000 + grown
    attention.claim(plan, results)
    held = {claim.text: claim.holds for claim in results.claims}
    assert held["TempCache is 5x faster than dense at 2048"]
    assert held["auto is no slower than dense at 64"]
    assert held["TempCache: different sizes of its cache"]
    assert held["TempCache: slope of memory per 1,000 frames"]
    assert not held["all: slope of memory per 1,000 frames"]
    assert held["auto is no slower than dense at 2048"]
    assert not any(claim.startswith("AnnSA") for claim in held)  # of which nothing is claimed


def test_a_rollouts_prompt_is_merged_once_and_padding_is_what_is_saved() -> None:
    bench = SpeedBench(6, {"kept"})
    bench.fill(3)
    for name in ("AnnCA, long prompt", "window, AnnCA"):
        for _ in range(2):
            bench.chunk(CASES[name], keep=False)
    long, short = (
        bench._prompts[repr(CASES[name])] for name in ("AnnCA, long prompt", "window, AnnCA")
    )
    assert long.share < 0.05 < short.share <= 1
    assert all(len(of_layer) == 1 for of_layer in long._prompts.values())


def test_claims_need_both_cases_that_they_compare() -> None:
    plan = attention.Plan((2048,), 1, cases=("TempCache", "auto"))
    results = Results("attention")
    for name in plan.cases:
        results.samples[attention.label(name, 2048)] = [1.0] * 3
    attention.claim(plan, results)
    assert results.claims == []


def test_what_is_in_work_is_what_is_made_and_not_what_was_there() -> None:
    held = torch.ones(2**20)
    taken = peak_in_work(lambda: (held + 1).sum(), held.device)
    assert held.nbytes <= taken < held.nbytes + 2**12


def test_memory_is_that_of_the_cache_and_of_a_chunk_in_work() -> None:
    plan, results = attention.Plan((6,), 1, cases=("dense", "TempCache")), Results("attention")
    bench = SpeedBench(60, {"kept"})
    bench.fill(6)
    attention.weigh(plan, results, bench, 6)
    full, kept = (results.bytes[f"KV cache: {name}, history 6"] for name in plan.cases)
    assert 0 < full < bench.caches["full"].bytes and kept == bench.caches["kept"].bytes
    for name in plan.cases:
        all_of_it = results.bytes[f"in work: {name}, history 6"]
        making = results.bytes[f"in work before decoding: {name}, history 6"]
        assert 2**20 < making <= all_of_it
