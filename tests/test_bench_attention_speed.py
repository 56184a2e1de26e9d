"""The speed bench of attention: its arithmetic and claims, and its smallest part run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from longtake.attention.cache_shape import CacheShape
from longtake.attention.history_cache import planned_bytes
from longtake.attention.kv_storage import DENSE
from longtake.attention.temp_policy import TempCache
from longtake.benchmarks import attention
from longtake.benchmarks._attention_cases import ABLATION, CASES, MAIN, WINDOW, kept_in
from longtake.benchmarks._attention_speed import SpeedBench
from longtake.benchmarks._device import peak_in_work
from longtake.benchmarks._report import Results

SHAPE = CacheShape(6, 1, 4, 48, 8, 8, 3)


def test_no_cache_takes_more_than_the_window_and_entries_are_the_most_that_fit() -> None:
    most = planned_bytes(SHAPE, WINDOW, DENSE, None)
    for policy, storage in kept_in(SHAPE).values():
        assert planned_bytes(SHAPE, policy, storage, None) <= most
        if isinstance(policy, TempCache) and storage is DENSE:
            more = replace(policy, entry_frames=policy.entry_frames + 1)
            assert planned_bytes(SHAPE, more, DENSE, None) > most


def test_the_ablation_has_each_part_alone_and_all_by_lsh_and_quantised() -> None:
    parts = {
        (case.cache != "full", sparse.of_self is not None, sparse.of_prompt is not None)
        for case, sparse in ((case, case.sparsity) for case in ABLATION.values())
    }
    one_part = {(True, False, False), (False, True, False), (False, False, True)}
    assert parts == {(False,) * 3, (True,) * 3} | one_part
    assert all(case.baseline == next(iter(ABLATION)) for case in ABLATION.values())
    for part in ("TempCache", "AnnSA", "all"):
        assert f"ablation: {part} by LSH" in ABLATION
        assert f"ablation: {part} by k-means" in ABLATION
    whole = list(map(repr, CASES.values()))
    assert len(set(whole)) == len(whole) == len(MAIN) + len(ABLATION)  # none is there twice


def test_chosen_cases_are_run_at_every_history_and_others_where_they_say_more() -> None:
    plan = attention.Plan((64, 2048))
    assert plan.at(64) == [*CASES] and plan.at(2048) == [*MAIN]
    some = plan.only(("ablation: AnnSA by LSH", "dense"))
    assert some.at(64) == some.at(2048) == ["dense", "ablation: AnnSA by LSH"]
    assert plan.only(()) == plan


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
    assert not any("ablation" in claim for claim in held)  # of which nothing is claimed


def test_a_rollouts_prompt_is_merged_once_and_padding_is_what_is_saved() -> None:
    cases = [CASES[name] for name in ("ablation: AnnCA, padding", "all")]
    bench = SpeedBench(6, cases)
    bench.fill(3)
    for case in cases:
        for _ in range(2):
            bench.make(case, keep=False)
    long, short = (bench._prompts[repr(case)] for case in cases)
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
    bench = SpeedBench(60, [CASES[name] for name in plan.cases])
    bench.fill(6)
    attention.weigh(plan, results, bench, 6)
    full, kept = (results.bytes[f"KV cache: {name}, history 6"] for name in plan.cases)
    assert 0 < full < bench.caches["full"].bytes and kept == bench.caches["kept"].bytes
    for name in plan.cases:
        all_of_it = results.bytes[f"in work: {name}, history 6"]
        making = results.bytes[f"in work before decoding: {name}, history 6"]
        assert 2**20 < making <= all_of_it


def test_blocks_are_sorted_by_the_codes_of_the_cache_that_they_are_over() -> None:
    """Random projection sorts the same history's keys in another order than time, whoever coded
    them; both read as much.
    """
    cases = [CASES[f"ablation: {name}"] for name in
             ("AnnSA by time", "AnnSA by LSH", "all by int8", "all by LSH")]  # fmt: skip
    bench = SpeedBench(15, cases)
    bench.fill(12)
    made = [bench.make(case, keep=False) for case in cases]
    for (by_time, x), (by_lsh, y) in (made[:2], made[2:]):
        assert by_time.density is not None and 0 < by_time.density < 1
        assert by_lsh.density == pytest.approx(by_time.density, abs=0.1)
        assert not torch.equal(x, y)
    bench.keep_only([CASES["ablation: all by LSH"]])
    assert bench.caches.keys() == {"full", "window", "merged LSH"}
