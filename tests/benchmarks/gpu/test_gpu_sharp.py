"""FlashVSR in the GPU bench, small and on the CPU."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from longtake.attention.lcsa import flex
from longtake.benchmarks.gpu import sharp, suite
from longtake.benchmarks.gpu.sharp import SHARP_CASES, SharpBench, official_sizes, random_networks
from longtake.benchmarks.gpu.shot import FIRST, FRAMES, OUT_OF_MEMORY, PEAK, PLANNED, TIMED
from longtake.benchmarks.gpu.suite import GpuPlan, report
from longtake.model.config import DiTConfig
from longtake.model.flashvsr.projector import ProjectorConfig
from longtake.model.flashvsr.sizes import Sizes

CPU = torch.device("cpu")
SIZES = Sizes(
    DiTConfig(24, 32, 2, 2, 8), ProjectorConfig(6, 8, 24, 1, causal=True), (8, 6, 4, 3),
    torch.float32, 6,
)  # fmt: skip


@pytest.fixture
def bench() -> SharpBench:
    return SharpBench(SIZES, CPU)


def test_a_case_has_its_seconds_and_bytes(bench: SharpBench) -> None:
    for name in ("FlashVSR, gathered", "FlashVSR in tiles, gathered"):
        measured = bench.measure(SHARP_CASES[name])
        assert {*measured.figures} == {FIRST, FRAMES, PEAK, PLANNED}, name
        assert measured.features.shape == (1, TIMED) and (measured.features > 0).all()
        assert measured.figures[PEAK] < 1.05 * measured.figures[PLANNED]
        assert measured.figures[FRAMES] == 8
    whole, tiled = (bench.settings(SHARP_CASES[name]).tiling.tiles for name in SHARP_CASES
                    if "gathered" in name)  # fmt: skip
    assert len(whole) == 1 < len(tiled)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_cases_by_flex_attention_read_by_it(
    bench: SharpBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    eager = partial(flex.attend_pairs, kernel=flex_attention)

    def counted(*inputs: Any) -> torch.Tensor:
        calls.append(1)
        return eager(*inputs)

    monkeypatch.setattr(flex, "attend_pairs", counted)
    monkeypatch.setattr(sharp, "TIMED", 1)
    bench.measure(SHARP_CASES["FlashVSR, FlexAttention"])
    passes = 2 + 3  # for the peak, and timed
    assert len(calls) == passes * SIZES.dit.num_layers


def test_a_kernel_that_does_not_run_here_is_why_a_case_is_left_out(
    bench: SharpBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharp, "kernel_unavailable_reason", lambda *_: None)
    monkeypatch.setattr(sharp, "flex_declines", lambda *_: "gives other values here")
    lacks = [bench.lacks(case) for case in SHARP_CASES.values()]
    assert lacks == [None, "gives other values here"] * 2


def test_a_case_without_room_says_so(bench: SharpBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(sharp, "random_networks", full)
    measured = bench.measure(SHARP_CASES["FlashVSR, gathered"])
    assert {*measured.figures} == {OUT_OF_MEMORY, PLANNED}


def test_the_official_sizes_are_those_of_the_published_files() -> None:
    """In bfloat16 2.8 GB of the transformer, and 0.6 GB of the projector."""
    networks = official_sizes(30, torch.bfloat16).networks()
    counts = [sum(p.numel() for p in part.parameters()) for part in
              (networks.dit, networks.projector, networks.decoder)]  # fmt: skip
    assert counts[0] == 1_418_996_800
    assert 0.28e9 < counts[1] < 0.30e9
    small = random_networks(SIZES, CPU)
    assert all(p.isfinite().all() and p.device == CPU for p in small.dit.parameters())


def test_its_cases_are_in_the_record_and_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "official_sizes", lambda *_: SIZES)
    path, name = tmp_path / "made.json", "FlashVSR, gathered"
    plan = GpuPlan("cpu", 64, 96, layers=2, cases=(name,))
    monkeypatch.setattr(suite, "wan_shaped", _small_model)
    report(plan, path)
    figures = json.loads(path.read_text("utf-8"))["figures"]
    assert figures[f"{name}: a later chunk, s"]["samples"] == TIMED
    rate = figures[f"{name}: frames a second, decoded"]["median"]
    assert rate == pytest.approx(8 / figures[f"{name}: a later chunk, s"]["median"], rel=0.2)
    assert not any("times" in key for key in figures)
    assert f"| {name} | " in path.with_suffix(".md").read_text("utf-8")


def _small_model(*_: object, **more: Any) -> Any:
    from longtake.benchmarks._attention.wan_shaped import wan_shaped
    from longtake.model.vae.taehv import TAEHVConfig

    config = DiTConfig(24, 32, 2, 2, 8)
    return wan_shaped(config, (64, 96), decoder=TAEHVConfig(widths=(8, 8, 8, 8)), **more)
