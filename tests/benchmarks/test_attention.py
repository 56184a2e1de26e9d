"""The arithmetic of the attention benches, and small runs of their parts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from longtake.attention.history import planned_bytes
from longtake.attention.storage.shape import CacheShape
from longtake.benchmarks import attention_quality, attention_recall
from longtake.benchmarks._attention import drift
from longtake.benchmarks._attention.chunk import chunk_cases, psnr_moving
from longtake.benchmarks._attention.drift import BALANCED
from longtake.benchmarks._attention.heads import POLICIES, HeadsPlan, measure_heads
from longtake.benchmarks._attention.layer import LayerPlan, layer_case, measure_layers
from longtake.benchmarks._attention.recall import (
    FULL,
    FULL_INT8,
    KINDS,
    SHARES,
    memories,
)
from longtake.benchmarks._attention.synthetic import ORDERS, measure_layer
from longtake.benchmarks._shared.report import Results
from longtake.benchmarks._shared.similarity import ssim
from longtake.benchmarks.attention_recall import pairs
from longtake.model.preset import DEMO_FOLDER
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import randn
from longtake.training.evaluation.kit import load_kit
from longtake.training.evaluation.returns import half_way


def test_psnr_looks_at_moving_pixels_only() -> None:
    truth = torch.zeros(3, 3, 4, 4)
    truth[:, :, :2] = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)  # only the upper half moves
    wrong = truth + 0.1 * (torch.arange(4) < 2).view(1, 1, 4, 1)
    assert psnr_moving(wrong, truth) == pytest.approx(20, abs=1e-3)
    still = truth.clone()
    still[:, :, 2:] += 0.3
    assert psnr_moving(still, truth) == pytest.approx(80)


def test_ssim_is_its_formula_window_by_window() -> None:
    a, b = (randn(2, 3, 9, 8, seed=i).sigmoid().double() for i in range(2))
    found = []
    for i in range(3):
        for j in range(2):
            x, y = (one[..., i : i + 7, j : j + 7].flatten(2) for one in (a, b))
            mx, my = x.mean(-1), y.mean(-1)
            cov = (x * y).mean(-1) - mx * my
            var = x.var(-1, unbiased=False) + y.var(-1, unbiased=False)
            top = (2 * mx * my + 1e-4) * (2 * cov + 9e-4)
            found.append(top / ((mx**2 + my**2 + 1e-4) * (var + 9e-4)))
    assert ssim(a, b) == pytest.approx(float(torch.stack(found).mean()))
    assert ssim(a, a) == pytest.approx(1)


def test_every_case_of_the_quality_bench_fits_short_and_long_histories() -> None:
    for history in (21, 63):
        cases = chunk_cases(history)
        assert next(iter(cases)) == "dense"
        fixed = [case for case in cases.values() if case.policy is BALANCED]
        assert len(fixed) == 4  # the preset, whatever the history
        rest = [case for case in cases.values() if case not in fixed]
        assert all((case.policy.limit or history) <= history for case in rest)


@pytest.mark.slow
def test_the_quality_bench_continues_with_the_judged_cases() -> None:
    results, written = Results("attention_quality"), list[int]()
    plan = attention_quality.QualityPlan((6,), clips=1, judged=2, rollouts=0)
    attention_quality.measure(plan, results, lambda: written.append(len(results.samples)))
    assert written
    counts = {name: len(values) for name, values in results.samples.items()}
    for name in chunk_cases(6):
        for what in ("PSNR", "SSIM", "adherence") if name != "dense" else ():
            judged = name in attention_quality.JUDGED
            assert counts[f"{what}: {name}, history 6"] == 1 + judged
    assert counts["adherence: dense itself, history 6"] == 2
    assert results.figures["SSIM: TempCache, history 6"].median == 1  # within its budget
    assert len(results.claims) == 2 * len(attention_quality.JUDGED)


@pytest.mark.slow
def test_heads_apart_are_timed_and_compared_with_windows() -> None:
    found = measure_heads(HeadsPlan(clips=1, rounds=1))
    assert {name for name in found.samples if name.startswith("layer: ")} == {
        f"layer: {name}" for name in POLICIES
    }
    assert {name for name in found.samples if name.startswith("PSNR: ")} == {
        f"PSNR: {name}" for name in POLICIES if name != "window, 21"
    }
    assert len(found.claims) == 4


def test_the_benched_temp_cache_is_what_the_nodes_default_preset_makes(bench: Bench) -> None:
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    [model] = bench.run("LongtakeSparseAttention", model=model, temp_cache=True)
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="a red ball")
    [schedule] = bench.run("LongtakeSchedule", steps=1)
    [cache] = bench.run("LongtakeKVCacheSettings")
    [rollout] = bench.run(
        "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, kv_cache=cache,
        width=32, height=32, length=9.0, plan_only=True,
    )  # fmt: skip
    assert rollout.settings.cache == replace(BALANCED, max_mass=1)  # which merges nothing


@pytest.mark.slow
def test_rollouts_within_the_budget_have_dense_attentions_adherence_and_drift(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = {name: drift.MEMORIES[name] for name in ("dense", "TempCache")}
    monkeypatch.setattr(drift, "MEMORIES", two)
    found = drift.measure_rollouts(load_kit(DEMO_FOLDER), 0, 45)
    assert found["adherence: TempCache"] == 0 < found["right: dense"] <= 1
    for what in ("right late", "drift", "spread"):
        assert found[f"{what}: TempCache"] == found[f"{what}: dense"]


def test_sparse_steps_of_the_layer_bench_read_every_block_at_density_1() -> None:
    dense, sparse = (layer_case(name, 4)()() for name in ("dense", "1.0"))
    for one, other in zip(dense, sparse, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    results = measure_layers(LayerPlan((2,), 1, 0.0))
    assert {claim.text for claim in results.claims} == {
        f"AnnSA {d:g} is faster than dense at 128 keys" for d in (0.15, 0.3, 0.5)
    }


def test_a_latent_frame_that_repeats_need_be_kept_once() -> None:
    still = randn(1, 16, 8, 8).expand(8, -1, -1, -1)
    found = measure_layer(still, 0)
    for share in ("25%", "50%"):
        assert found[f"error: window, {share}"] < 1e-6
        assert found[f"error: TempCache, {share}"] < 5e-3  # some tokens are there twice
    assert all(0 < found[f"recall: {order}, density 0.3"] <= 1 for order in ORDERS)


def test_no_memory_takes_more_than_the_window_it_is_compared_with() -> None:
    shape = CacheShape(6, 2, 4, 48, 4, 6, 3)
    for away in attention_recall.AWAY:
        history = half_way(away).history
        assert history % 3 == 0 and abs(history - 1.5 * away) <= 1.5
        made = memories(shape, history)
        taken = {n: planned_bytes(shape, *made[n], None) for n in made if not n.startswith(FULL)}
        for share in SHARES:
            most = taken[f"window, {share:.0%}"]
            assert all(taken[f"{kind}, {share:.0%}"] <= most for kind in KINDS)
            for kind in ("window", "window, int8"):
                held = made[f"{kind}, {share:.0%}"][0].limit or 0
                reaches = f"{kind}, {share:.0%}" in attention_recall.REACHING
                assert held > away + 3 if reaches else held < away
        assert taken["TempCache, 10%"] > 0.99 * taken["window, 10%"]


def test_one_share_alone_is_compared_and_claimed() -> None:
    shape = CacheShape(6, 2, 4, 48, 4, 6, 3)
    made = memories(shape, 36, (0.1,))
    assert made.keys() == {FULL, FULL_INT8, *(f"{kind}, 10%" for kind in KINDS)}
    found, row = attention_recall.RecallResults(), dict.fromkeys(made, 0.5)
    attention_recall.summarise(found, "16 away", [row])
    attention_recall.claim(found, [{0: row}])
    assert len(found.claims) == 3 and all("10%" in claim.text for claim in found.claims)


def test_clips_of_far_turns_are_few_and_come_last() -> None:
    plan = attention_recall.RecallPlan(away=(16, 512), near=(), clips=3, few=1)
    near, far = (str(half_way(away)) for away in (16, 512))
    assert plan.jobs() == [(near, 0), (near, 1), (near, 2), (far, 0)]


def test_more_is_recalled_only_where_the_whole_interval_says_so() -> None:
    row = {name: 0.5 for name in (FULL, FULL_INT8, *(one for two in pairs() for one in two))}
    clips = [{**row, "window, 10%": 0.4, "window, 25%": 0.6, "window, 50%": 0.4 + 0.2 * (i % 2)}
             for i in range(8)]  # fmt: skip
    found, rows = attention_recall.RecallResults(), dict(enumerate(clips))
    attention_recall.summarise(found, "16 away", clips)
    attention_recall.claim(found, [rows, {seed: rows[seed] for seed in range(2, 8)}])
    assert [claim.holds for claim in found.claims] == [True, *[False] * 3, True, False, False]
    assert not any(
        name in claim.text for claim in found.claims for name in attention_recall.REACHING
    )
    assert found.differences["16 away: TempCache, 10% less window, 10%"].mean == pytest.approx(0.1)
    assert found.differences["half way back: TempCache, 10% less window, 10%"].clips == 6
