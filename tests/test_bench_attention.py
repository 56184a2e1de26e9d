"""The attention benches' arithmetic, and their smallest parts run."""

from __future__ import annotations

import pytest
import torch

from longtake.attention.cache_shape import CacheShape
from longtake.attention.history_cache import planned_bytes
from longtake.attention.kv_storage import DENSE
from longtake.attention.temp_policy import TempCache
from longtake.benchmarks import attention, attention_layer
from longtake.benchmarks._attention_layer import layer_case
from longtake.benchmarks._attention_speed import CASES, WINDOW, equal_memory
from longtake.benchmarks._report import Results
from longtake.benchmarks.attention_quality import chunk_cases, psnr_moving

SHAPE = CacheShape(6, 1, 4, 48, 8, 8, 3)


def test_equal_memory_is_the_most_entries_that_fit_the_windows_bytes() -> None:
    most, frames = planned_bytes(SHAPE, WINDOW, DENSE, None), equal_memory(SHAPE)
    taken = [planned_bytes(SHAPE, TempCache(frames + i), DENSE, None) for i in (0, 1)]
    assert taken[0] <= most < taken[1]


def test_the_slope_is_the_growth_by_1000_frames_over_the_median() -> None:
    plan = attention.Plan(histories=(1000, 2000, 3000))
    results = Results("attention")
    for history, seconds in zip(plan.histories, (2.0, 2.2, 2.4), strict=True):
        results.samples[attention.label("TempCache", history)] = [seconds] * 3
    assert attention.slope(plan, results, "TempCache") == pytest.approx(0.2 / 2.2)


def test_claims_are_made_of_the_cases_that_were_run() -> None:
    plan = attention.Plan((64, 2048), 1, cases=tuple(CASES))
    results = Results("attention")
    for name in CASES:
        for history in plan.histories:
            seconds = 10.0 if name == "dense" and history == 2048 else 1.0
            results.samples[attention.label(name, history)] = [seconds] * 3
    attention.claim(plan, results)
    held = {claim.text: claim.holds for claim in results.claims}
    assert held["TempCache is 5x faster than dense at 2048"]
    assert held["auto is no slower than dense at 64"]


def test_psnr_looks_at_moving_pixels_only() -> None:
    truth = torch.zeros(3, 3, 4, 4)
    truth[:, :, :2] = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)  # only the upper half moves
    wrong = truth + 0.1 * (torch.arange(4) < 2).view(1, 1, 4, 1)
    assert psnr_moving(wrong, truth) == pytest.approx(20, abs=1e-3)
    still = truth.clone()
    still[:, :, 2:] += 0.3
    assert psnr_moving(still, truth) == pytest.approx(80)


def test_every_case_of_the_quality_bench_fits_short_and_long_histories() -> None:
    for history in (21, 63):
        cases = chunk_cases(history)
        assert next(iter(cases)) == "dense"
        assert all((case.policy.limit or history) <= history for case in cases.values())


def test_sparse_steps_of_the_layer_bench_read_every_block_at_density_1() -> None:
    dense, sparse = (layer_case(name, 4)()() for name in ("dense", "1.0"))
    for one, other in zip(dense, sparse, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    results = attention_layer.measure(attention_layer.Plan((2,), 1, 0.0))
    assert {claim.text for claim in results.claims} == {
        f"AnnSA {d:g} is faster than dense at 128 keys" for d in (0.15, 0.3, 0.5)
    }
