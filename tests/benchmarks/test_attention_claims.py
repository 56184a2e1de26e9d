"""The cases of the attention speed bench, and the claims on its samples."""

from __future__ import annotations

from dataclasses import replace

import pytest

from longtake.attention.history import planned_bytes
from longtake.attention.storage.dense import DENSE
from longtake.attention.storage.shape import CacheShape
from longtake.attention.temp_cache.policy import TempCache
from longtake.benchmarks._attention.cases import ABLATION, CASES, MAIN, WINDOW, bounded_caches
from longtake.benchmarks._attention.claims import claim
from longtake.benchmarks._attention.flat import claim_flat, slope
from longtake.benchmarks._attention.plan import SpeedPlan
from longtake.benchmarks._shared.report import Results

SHAPE = CacheShape(6, 1, 4, 48, 8, 8, 3)


def test_no_cache_takes_more_than_the_window_and_entries_are_the_most_that_fit() -> None:
    most = planned_bytes(SHAPE, WINDOW, DENSE, None)
    for policy, storage in bounded_caches(SHAPE).values():
        assert planned_bytes(SHAPE, policy, storage, None) <= most
        if isinstance(policy, TempCache) and storage is DENSE:
            more = replace(policy, entry_frames=policy.entry_frames + 1)
            assert planned_bytes(SHAPE, more, DENSE, None) > most


def test_the_ablation_has_each_part_alone_and_all_by_lsh_and_quantised() -> None:
    parts = {
        (case.cache != "full", sparse.self_sparsity is not None, sparse.prompt_sparsity is not None)
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
    plan = SpeedPlan((64, 2048))
    assert plan.cases_at(64) == [*CASES] and plan.cases_at(2048) == [*MAIN]
    some = plan.only(("ablation: AnnSA by LSH", "dense"))
    assert some.cases_at(64) == some.cases_at(2048) == ["dense", "ablation: AnnSA by LSH"]
    assert plan.only(()) == plan
    assert "auto" not in replace(plan, reach=64).cases_at(2048)  # it is over the full history
    assert replace(plan, prefix="1.3B: ").label("auto", 64) == "1.3B: auto, history 64"


def test_the_slope_is_the_growth_by_1000_frames_over_the_median() -> None:
    assert slope((1000, 2000, 3000), (2.0, 2.2, 2.4)) == pytest.approx(0.2 / 2.2)


def test_claims_are_made_of_the_cases_that_were_run() -> None:
    plan = SpeedPlan((64, 2048), 1, cases=tuple(CASES))
    results = Results("attention")
    for history in plan.histories:
        for name in plan.cases_at(history):
            seconds = 10.0 if name == "dense" and history == 2048 else 1.0
            results.samples[plan.label(name, history)] = [seconds] * (3 + (name != "dense"))
    claim(plan, results)
    held = {one.text: one.holds for one in results.claims}
    assert held["TempCache is 5x faster than dense at 2048"]
    assert held["auto is no slower than dense at 64"]
    assert held["auto is no slower than dense at 2048"]
    assert not any("ablation" in text for text in held)  # of which nothing is claimed


def test_claims_need_both_cases_that_they_compare() -> None:
    plan = SpeedPlan((2048,), 1, cases=("TempCache", "auto"))
    results = Results("attention")
    for name in plan.cases:
        results.samples[plan.label(name, 2048)] = [1.0] * 3
    claim(plan, results)
    assert results.claims == []


def test_flat_cases_are_timed_in_turn_and_with_full_caches() -> None:
    plan, results = SpeedPlan((3, 1000, 3000), cases=("window + sink", "all", "dense")), Results("")
    for history in (1000, 3000):
        for name, work in (("window + sink", 10_000), ("all", 10_000 + history)):
            at = plan.label(name, history)
            results.bytes |= {f"KV cache: {at}": 100, f"in work: {at}": work}
            grows = 1 + history / 1e4 * (name == "all")
            # the machine is twice as slow in the second round
            results.samples[f"in turn: {at}"] = [grows, 2 * grows, grows]
    claim_flat(plan, results)
    held = {one.text: one.holds for one in results.claims}
    assert len(held) == 6 and not any("dense" in text for text in held)
    for what in ("time", "memory"):
        assert held[f"window + sink: growth of {what} by 1,000 frames"]
        assert not held[f"all: growth of {what} by 1,000 frames"]
    assert held["all: different sizes of its cache"]
    assert results.figures["all: growth of time by 1,000 frames"].median == pytest.approx(1 / 12)


def test_flatness_needs_two_histories_that_fill_the_cache() -> None:
    names = ("window + sink", "dense")
    assert SpeedPlan((3, 30), cases=names).flat == ([], [])
    assert SpeedPlan((3, 30, 60), cases=names).flat == (["window + sink"], [30, 60])
    assert SpeedPlan((30, 60, 90), cases=names, flat_at=(30, 90)).flat == (
        ["window + sink"],
        [30, 90],
    )
