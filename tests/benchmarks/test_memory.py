"""The memory bench's claims, on known traces, and its arithmetic."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake.attention.cache.kv_cache import planned_bytes
from longtake.benchmarks import memory
from longtake.benchmarks._long.trace import RolloutTrace, trace_rollout
from longtake.benchmarks._memory import plan as by_plan
from longtake.benchmarks._memory.peak import Peak
from longtake.benchmarks._memory.quality import psnr
from longtake.benchmarks._shared.report import Results
from longtake.benchmarks.memory import MemoryPlan, add_coding, add_peaks, draw, evaluate

MIB = 2**20


def noise(count: int, seed: int) -> np.ndarray:
    """Return noise with similar neighbours, as on a shared machine."""
    white = np.random.Generator(np.random.Philox(seed)).normal(size=count)
    return np.convolve(white, np.ones(8) / 8, "same")


def make_trace(*, growth_mib: float = 0.0, slower: float = 0.0, over_plan: int = 0) -> RolloutTrace:
    """Return 600 chunks that gain this much memory, and share of time, from start to end."""
    along = np.linspace(0, 1, 600)
    seconds = 1 + slower * along + 0.02 * noise(600, 1)
    resident = 300 * MIB + growth_mib * MIB * along
    return RolloutTrace([*seconds], [int(one) for one in resident], [1000 + over_plan] * 600, 1000)


def failing(trace: RolloutTrace) -> list[str]:
    """Return the claims that fail."""
    return [claim.text for claim in evaluate({"a": trace}).claims if not claim.holds]


def test_a_flat_course_holds_and_each_fault_breaks_its_own_claim() -> None:
    assert failing(make_trace()) == []
    assert failing(make_trace(growth_mib=20)) == ["a: resident, most over least"]
    assert failing(make_trace(over_plan=1)) == ["a: KV bytes, from the plan"]
    assert failing(make_trace(over_plan=-1)) == ["a: KV bytes, from the plan"]
    slower = evaluate({"a": make_trace(slower=0.5)})
    assert slower.figures["a: CPU seconds a chunk, change over the shot"].low > 0.2


@pytest.mark.slow
def test_peaks_are_as_planned_and_what_is_not_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results("memory")
    add_peaks(results)
    assert [claim.text.split(":")[0] for claim in results.claims] == [
        "rollout, as computed", "rollout, int8", "rollout, int4", "decoding",
    ]  # fmt: skip
    assert all(claim.holds for claim in results.claims)
    monkeypatch.setattr(memory, "peaks", lambda: [Peak("a", 100, 106), Peak("b", 100, 94)])
    results = Results("memory")
    add_peaks(results)
    assert not any(claim.holds for claim in results.claims)


@pytest.mark.slow
def test_coding_is_judged_on_every_rollout_and_goes_on(tmp_path: Path) -> None:
    plan = MemoryPlan(rollouts=3, coded_frames=9, record=tmp_path / "coded.jsonl")
    results, again = Results("memory"), Results("memory")
    add_coding(results, plan)
    shares, decibels = results.claims[:-2], results.claims[-2:]
    assert [claim.limit for claim in shares] == [0.53] * 3 + [0.30] * 3
    assert all(claim.limit * 0.85 < claim.bound <= claim.limit for claim in shares)
    assert [claim.limit for claim in decibels] == [35.0, 28.0]
    values = list(results.samples.values())
    assert [len(one) for one in values] == [3, 3] and len({*values[0]}) == 3
    assert all(eight > four > 20 for eight, four in zip(*values, strict=True))
    add_coding(again, plan)  # from the record
    assert again == results


def test_psnr_is_that_of_its_definition() -> None:
    frames = np.random.Generator(np.random.Philox(3)).random((2, 3, 4, 5))
    noisy = frames + 0.01
    assert psnr(torch.tensor(noisy), torch.tensor(frames)) == pytest.approx(40.0)


def test_the_sum_that_is_shown_is_the_plan() -> None:
    for size, shape in by_plan.SHAPES.items():
        for name, storage in by_plan.STORAGES.items():
            text = by_plan.arithmetic(shape, storage)
            value, how = re.findall(r"(\d+) \((\d+ tokens[^)]*)\)", text)[0]
            assert added_up(how) == int(value)
            text = text.replace(f"({how})", "")
            assert added_up(text) == planned_bytes(shape, by_plan.WINDOW, None, storage), (
                size,
                name,
            )


def added_up(text: str) -> int:
    """Return the value of a written sum."""
    sum_only = re.sub(r"[a-z]\w+", "", text.replace(" x ", " * "))
    assert re.fullmatch(r"[\d\s()+*]*", sum_only), sum_only
    return int(eval(sum_only))  # noqa: S307  # digits, brackets, + and * alone


def test_a_short_course_of_the_demo_holds_the_planned_bytes_in_every_chunk() -> None:
    seen = trace_rollout("window + sink, int8", 12)
    assert len(seen.seconds) == 4 and set(seen.kv_bytes) == {seen.planned_bytes}
    assert min(seen.resident) > seen.planned_bytes


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw({"a": make_trace()}, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
