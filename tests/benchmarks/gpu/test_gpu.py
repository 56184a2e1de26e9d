"""The GPU bench on a small model and the CPU: its record, its page, its claims, smaller cards."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake.benchmarks._attention.wan_shaped import wan_shaped
from longtake.benchmarks._shared.measures import Measurement
from longtake.benchmarks._shared.report import Results
from longtake.benchmarks.gpu import shot, suite
from longtake.benchmarks.gpu.cases import CASES, GpuCase, budget_cases
from longtake.benchmarks.gpu.shot import (
    COMPILING,
    DECODE,
    FIRST,
    FRAMES,
    OUT_OF_MEMORY,
    PEAK,
    PLANNED,
    TIMED,
    GpuBench,
)  # fmt: skip
from longtake.benchmarks.gpu.suite import GpuPlan, add_case, claim_memory, open_bench, report
from longtake.errors import BadInput
from longtake.model.arithmetic.compiled import compile_arithmetic
from longtake.model.vae.taehv import TAEHVConfig
from longtake.tests.support.model.compilers import CountingCompiler, FailingCompiler
from longtake.tests.support.tiny_model import TINY

CPU = torch.device("cpu")
SIZES = replace(TINY, in_channels=16, out_channels=16)
DECODER = TAEHVConfig(widths=(8, 8, 8, 8))
RUN = ("window 12", "window 21", "TempCache 21", "window 21, KV in main memory")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> GpuBench:
    model = wan_shaped(SIZES, (32, 48), device=CPU, dtype=torch.float32, decoder=DECODER)
    made = GpuBench(model, SIZES)
    monkeypatch.setattr(suite, "open_bench", lambda plan: made)
    return made


def test_the_bench_names_the_number_of_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch refuses to limit the memory of a device without one."""
    devices = list[torch.device]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(suite, "wan_shaped", lambda *_, device, **__: devices.append(device))
    open_bench(GpuPlan())
    assert devices == [torch.device("cuda", 0)]


def test_every_case_makes_its_chunks(bench: GpuBench) -> None:
    for name, case in CASES.items():
        if case.kernel in (None, "gathered") and not case.compiled:  # others compile, or need a GPU
            chunks = bench._shot(case, case.history, 1)()
            assert [chunk.first_frame for chunk in chunks] == [case.history], name


def test_a_case_has_its_seconds_and_bytes(bench: GpuBench) -> None:
    measured = bench.measure(CASES["window 12"])
    assert {*measured.figures} == {FIRST, FRAMES, DECODE, PEAK, PLANNED}
    assert all(value > 0 for value in measured.figures.values())
    assert measured.features.shape == (1, TIMED)


def test_a_compiled_case_has_the_seconds_of_compiling_too(
    bench: GpuBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = CountingCompiler()
    monkeypatch.setattr(shot, "compile_arithmetic", partial(compile_arithmetic, compiler=compiler))
    case = CASES["window 21, compiled"]
    assert bench.lacks(case) is None
    measured = bench.measure(case)
    assert {*measured.figures} == {FIRST, FRAMES, DECODE, PEAK, PLANNED, COMPILING}
    assert compiler.graphs == 3 and compiler.calls > 100
    results = Results("gpu")
    add_case(results, "window 21, compiled", measured)
    assert results.figures[f"window 21, compiled: {COMPILING}"].median > 0


def test_a_compiler_that_fails_is_why_a_case_does_not_run(
    bench: GpuBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = FailingCompiler(OSError("cc1plus is missing"))
    monkeypatch.setattr(shot, "compile_arithmetic", partial(compile_arithmetic, compiler=compiler))
    assert bench.lacks(CASES["window 21, compiled"]) == "cc1plus is missing"


def test_a_case_needs_weights_plan_and_decoding(bench: GpuBench) -> None:
    small, large = (CASES[name] for name in ("window 12", "window 63"))
    beside = bench.weight_bytes + bench.planned_bytes(small)
    frames = 3 * 12 * 32 * 48 * 4  # of a chunk, in bytes
    assert beside + frames < bench.needed_bytes(small) < bench.needed_bytes(large)


def test_a_bench_goes_on_where_it_stopped_and_writes_its_page(
    bench: GpuBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "made.json"
    report(GpuPlan(cases=RUN[:2], minutes=1), path)
    measured: list[GpuCase] = []
    really = GpuBench.measure
    monkeypatch.setattr(
        GpuBench, "measure", lambda self, case: measured.append(case) or really(self, case)
    )
    report(GpuPlan(cases=RUN, minutes=1), path)
    assert measured == [CASES[name] for name in RUN[2:]]
    figures = json.loads(path.read_text("utf-8"))["figures"]
    page = path.with_suffix(".md").read_text("utf-8")
    for name in RUN:
        assert figures[f"{name}: a later chunk, s"]["samples"] == TIMED
        assert f"| {name} | " in page
    assert [key for key in figures if "times window 21" in key] == [
        f"{name}: times window 21" for name in RUN if name != "window 21"
    ]


def test_a_case_that_fails_does_not_end_the_others(
    bench: GpuBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run on a GPU ended where a kernel did not compile."""
    really, path = GpuBench.measure, tmp_path / "made.json"

    def measure(self: GpuBench, case: GpuCase) -> Measurement:
        if case is CASES[RUN[0]]:
            raise RuntimeError("no such kernel\nand more")
        return really(self, case)

    monkeypatch.setattr(GpuBench, "measure", measure)
    report(GpuPlan(cases=RUN[:2], minutes=1), path)
    page = path.with_suffix(".md").read_text("utf-8")
    assert f"- {RUN[0]}: failed: RuntimeError: no such kernel\n" in page
    assert f"- fails: {RUN[0]}: fails" in page and f"| {RUN[1]} | " in page
    monkeypatch.setattr(GpuBench, "measure", really)
    report(GpuPlan(cases=RUN[:2], minutes=1), path)
    assert f"| {RUN[0]} | " in path.with_suffix(".md").read_text("utf-8")


def test_what_did_not_run_is_told(bench: GpuBench, tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    report(GpuPlan(cases=("window 12", "window 63, 30 % by Triton"), minutes=0), path)
    page = path.with_suffix(".md").read_text("utf-8")
    assert "- window 12: not run yet; the same command goes on here" in page
    assert "- window 63, 30 % by Triton: not run: " in page
    assert "| window 12 |" not in page
    assert bench.lacks(GpuCase(budget_gb=12)) == "memory is limited on CUDA alone"


def test_memory_beyond_the_plan_fails() -> None:
    def holds(**figures: float) -> list[bool]:
        results = Results("gpu")
        claim_memory(results, "a", Measurement(figures, np.zeros((1, 0))))
        return [claim.holds for claim in results.claims]

    assert holds(**{PLANNED: 100.0, PEAK: 105.0}) == [True]
    assert holds(**{PLANNED: 100.0, PEAK: 105.1}) == [False]
    assert holds(**{PLANNED: 100.0, OUT_OF_MEMORY: 1.0}) == [False]


def test_a_smaller_card_has_the_longest_window_that_fits() -> None:
    gigabytes = {"window 12": 9, "window 21": 12, "window 63": 22}
    gigabytes["window 63, KV in main memory"] = 14
    by_case = {id(CASES[name]): count for name, count in gigabytes.items()}
    chosen = budget_cases(lambda case: by_case[id(case)] * 10**9)
    assert [*chosen] == [
        "12 GB: window 12", "16 GB: window 21", "16 GB: window 63, KV in main memory",
        "24 GB: window 63", "24 GB: window 63, KV in main memory",
    ]  # fmt: skip
    assert [case.budget_gb for case in chosen.values()] == [12, 16, 16, 24, 24]


def test_without_a_gpu_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match="needs an NVIDIA GPU, and PyTorch finds none here"):
        open_bench(GpuPlan())
    with pytest.raises(BadInput, match="multiples of 16 pixels; got 40"):
        open_bench(GpuPlan("cpu", height=40))
