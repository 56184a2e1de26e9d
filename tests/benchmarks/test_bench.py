"""The statistics of the benches, and a small core suite that compares equal computations."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from longtake.attention.cache.policy import FullHistory
from longtake.benchmarks import core
from longtake.benchmarks._shared import busy_core, vae
from longtake.benchmarks._shared.demo import demo_weights, random_latents
from longtake.benchmarks._shared.history import CHUNK, HistoryBench, cache_bytes
from longtake.benchmarks._shared.paired import (
    Prepare,
    median_interval,
    paired_seconds,
    ratio_interval,
)
from longtake.benchmarks._shared.report import Results, command, write
from longtake.benchmarks.core import CorePlan
from longtake.errors import StorageError
from longtake.model.checkpoint import read
from longtake.model.fingerprint import fingerprint
from longtake.model.preset import DEMO_FOLDER, FAST_FOLDER
from longtake.tests.support.tiny_model import randn

SMALL = CorePlan(histories=(1, 4), rounds=1, vae_latent_frames=2, chunks=2, memory=False)


def test_an_interval_holds_its_median_and_narrows_with_samples() -> None:
    few, many = (median_interval(randn(n, seed=n).exp().tolist()) for n in (10, 1000))
    for interval in (few, many):
        assert interval.low < interval.median < interval.high
    assert many.high - many.low < few.high - few.low
    assert median_interval([2.0]) == median_interval([2.0])


def test_intervals_cover_the_true_median_about_95_times_in_100() -> None:
    hits = 0
    for trial in range(200):
        interval = median_interval(randn(25, seed=trial).tolist())
        hits += interval.low <= 0 <= interval.high
    assert 0.90 <= hits / 200 <= 0.99


def test_a_drifting_machine_does_not_change_a_paired_ratio() -> None:
    drift = [1.0 + 0.3 * turn for turn in range(20)]
    ratio = ratio_interval([3 * d for d in drift], drift)
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((3, 3, 3))


def test_cases_take_turns_and_set_up_is_not_timed() -> None:
    order: list[str] = []

    def case(name: str) -> Prepare:
        def prepare() -> Callable[[], object]:
            order.append(f"set up {name}")
            return lambda: order.append(name)

        return prepare

    seconds = paired_seconds({"a": case("a"), "b": case("b")}, rounds=2, budget_s=60)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    assert [step for step in order if len(step) == 1] == ["b", "a", "a", "b", "b", "a"]


def test_a_spent_budget_ends_the_rounds_but_not_before_three() -> None:
    seconds = paired_seconds({"a": lambda: lambda: None}, rounds=50, budget_s=0)
    assert len(seconds["a"]) == 3


@pytest.mark.parametrize("history", [1, 4])
def test_recomputing_and_the_full_cache_make_the_same_chunk(history: int) -> None:
    bench = HistoryBench()
    x = random_latents(history + CHUNK)[None]
    cached = bench.generate_cached(bench.fill_cache(FullHistory(), history), x[:, -CHUNK:])
    torch.testing.assert_close(cached, bench.generate_recomputed(x), rtol=1e-4, atol=1e-4)


def test_a_windowed_cache_stops_growing() -> None:
    window, full = (
        [cache_bytes(name, history) for history in (4, 64, 256)]
        for name in ("cached, window", "cached, full")
    )
    assert window[0] < window[1] == window[2]
    assert full[0] < full[1] < full[2]


@pytest.mark.slow
def test_the_suite_leaves_all_that_is_needed_to_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = {"frames_per_s": 20.0, "first_frame_s": 0.5}  # tests/benchmarks/test_busy_core.py
    monkeypatch.setattr(busy_core, "run_once", lambda *_, **__: same)
    results = core.measure(SMALL)
    results.save(tmp_path / "results" / "core.json")
    saved = json.loads((tmp_path / "results" / "core.json").read_text())
    assert {"versions", "device", "commit", "command", "samples", "claims"} <= set(saved)
    assert all(values for values in saved["samples"].values())
    assert len(saved["claims"]) == 8
    parts = ("model", "VAE", "encode", "engine")
    shares = [saved["figures"][f"run: share of {part}"]["median"] for part in parts]
    assert math.isclose(sum(shares), 1)


def test_one_part_of_the_suite_can_be_measured_alone() -> None:
    assert set(core.measure(SMALL, "vae").samples) == set(vae.CASES)


def test_claims_are_judged_on_their_bound_and_shown() -> None:
    results = Results("core", figures={"time": median_interval([1.0, 2.0])})
    results.at_most("small enough", 0.5, 0.4)
    results.at_least("large enough", 0.5, 0.4)
    assert [claim.holds for claim in results.claims] == [False, True]
    shown = io.StringIO()
    results.show(Console(file=shown, width=120))
    assert "95 % [1, 2]  n=2" in shown.getvalue()
    assert "FAILS small enough: 0.5 (limit 0.4)" in shown.getvalue()
    assert "holds large enough: 0.5 (limit 0.4)" in shown.getvalue()


def test_results_name_files_and_not_where_they_lie(tmp_path: Path) -> None:
    run = ["/home/me/longtake/benchmarks/core.py", "--json", "/home/me/out.json", "--rounds=3"]
    assert command(run) == "python -m longtake.benchmarks.core --json out.json --rounds=3"
    assert command(["/usr/bin/longtake", "bench", "core"]) == "longtake bench core"
    write(tmp_path / "out.json", {"plan": {"record": tmp_path / "record.jsonl"}})
    text = (tmp_path / "out.json").read_text()
    assert json.loads(text)["plan"] == {"record": "record.jsonl"} and str(tmp_path) not in text


def test_results_that_a_full_disk_refuses_leave_the_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"
    write(path, {"plan": "older"})
    before = path.read_bytes()

    def fill(target: Path, content: bytes) -> None:
        with target.open("wb") as file:
            file.write(content[:9])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill)
        with pytest.raises(StorageError, match="No space left on device"):
            write(path, {"plan": "newer"})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    write(path, {"plan": "newer"})
    assert json.loads(path.read_text())["plan"] == "newer"


def test_the_weights_of_a_bench_are_those_of_both_qualities() -> None:
    weights = demo_weights()
    assert len(set(weights)) == len(weights) == len([*DEMO_FOLDER.rglob("*.safetensors")])
    students = fingerprint(read(FAST_FOLDER / "dit.safetensors")[0])
    teachers = fingerprint(read(DEMO_FOLDER / "dit.safetensors")[0])
    assert {students, teachers} <= set(weights)
