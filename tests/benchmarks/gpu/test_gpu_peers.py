"""The peers in the GPU bench: Self-Forcing's loop, and the core's sampler in a real ComfyUI."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtake.benchmarks._attention.wan_shaped import wan_shaped
from longtake.benchmarks._shared.measures import Measurement
from longtake.benchmarks._shared.report import Results
from longtake.benchmarks.gpu import in_core
from longtake.benchmarks.gpu.in_core import APART, CORE_CASES, CoreBench, add_turns
from longtake.benchmarks.gpu.page import page
from longtake.benchmarks.gpu.shot import DECODE, FIRST, FRAMES, PEAK, TIMED, GpuBench
from longtake.benchmarks.gpu.straight import STRAIGHT_CASES, StraightBench
from longtake.benchmarks.gpu.suite import add_case
from longtake.model.checkpoint import open_checkpoint
from longtake.model.vae.taehv import TAEHVConfig
from longtake.tests.support.model.family_files import SMALL

SIZES = replace(SMALL, in_channels=16, out_channels=16)
COMFY = Path(os.environ.get("COMFYUI_PATH", Path.home() / "ComfyUI"))
IN_CORE, IN_FP8 = CORE_CASES.items()
ANSWER = {
    "ours": [2.0, 2.0, 2.0], "core": [3.0, 3.0, 3.0], "core_fails": "", "apart": 1e-3,
    "first_s": 0.2, "later": [0.5, 0.5, 0.5], "decode_s": 0.25, "peak": 1000,
}  # fmt: skip


@pytest.fixture
def bench() -> GpuBench:
    model = wan_shaped(
        SIZES, (32, 48), device=torch.device("cpu"), dtype=torch.float32,
        decoder=TAEHVConfig(widths=(8, 8, 8, 8)),
    )  # fmt: skip
    return GpuBench(model, SIZES)


def test_the_published_loop_makes_chunks_behind_a_full_window(bench: GpuBench) -> None:
    [(name, case)] = STRAIGHT_CASES.items()
    measured = StraightBench(bench).measure(case)
    assert {*measured.figures} == {FIRST, FRAMES, DECODE, PEAK}
    assert measured.features.shape == (1, TIMED) and (measured.features > 0).all()
    results = Results("gpu", notes={"model": "small"})
    add_case(results, name, measured)
    assert f"| {name} | " in page(results)


def answering(answer: dict[str, Any], asked: list[Any]) -> Any:
    """A process in the core that gives one answer."""

    @contextmanager
    def opened(comfy: Path, program: str, write: Any) -> Any:
        class Process:
            def ask(self, request: Any) -> Any:
                asked.append((comfy, program, request))
                return answer

        yield Process()

    return opened


def test_turns_in_the_core_are_judged(bench: GpuBench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Any]()
    monkeypatch.setattr(in_core, "open_core_process", answering(ANSWER, asked))
    name, case = IN_CORE
    measured = CoreBench(bench, Path("comfy")).measure(case)
    [(_, _, request)] = asked
    assert request == {"weight_dtype": "auto", "rows": 4, "columns": 6, "cpu": True}
    results = Results("gpu", notes={"model": "small"})
    add_case(results, name, measured)
    add_turns(results, name, case, measured)
    assert [claim.holds for claim in results.claims] == [True, True]
    assert "- in ComfyUI: ComfyUI's sampler / Longtake: 1.5" in page(results)
    slower = Measurement({APART: 0.1}, np.array([[1.0] * 3, [2.0] * 3, [2.0] * 3]))
    add_turns(results, name, case, slower)
    assert [claim.holds for claim in results.claims[2:]] == [False, False]


def test_a_core_that_fails_with_some_weights_is_a_note(
    bench: GpuBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {**ANSWER, "core": [], "core_fails": "no fp8", "apart": None}
    monkeypatch.setattr(in_core, "open_core_process", answering(answer, []))
    name, case = IN_FP8
    results = Results("gpu")
    add_turns(results, name, case, CoreBench(bench, Path("comfy")).measure(case))
    assert results.claims == []
    assert results.notes[f"{name}: ComfyUI's sampler"] == "fails with these weights"


def test_the_weights_for_the_core_are_a_file_of_self_forcing(
    bench: GpuBench, tmp_path: Path
) -> None:
    recognition = open_checkpoint(in_core.write_weights(bench, tmp_path)).recognition
    assert recognition.family.key == "self-forcing" and not recognition.unused


def test_without_a_checkout_the_bench_says_so(bench: GpuBench) -> None:
    assert "COMFYUI_PATH" in (CoreBench(bench, None).lacks() or "")


@pytest.mark.slow
@pytest.mark.comfy
@pytest.mark.skipif(
    not (COMFY / "main.py").is_file(), reason="no ComfyUI checkout (set COMFYUI_PATH)"
)
def test_in_a_real_core_both_samplers_make_the_same(bench: GpuBench) -> None:
    measured = CoreBench(bench, COMFY).measure(IN_CORE[1])
    assert measured.features.shape == (3, 3) and (measured.features > 0).all()
    assert measured.figures[APART] < 1e-4
