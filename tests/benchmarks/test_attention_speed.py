"""A small attention speed bench, on the embedded model and on a model of Wan's shape."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from longtake.benchmarks import attention
from longtake.benchmarks._attention import speed
from longtake.benchmarks._attention.cases import CASES
from longtake.benchmarks._attention.plan import SpeedPlan
from longtake.benchmarks._attention.speed import SHARE, SpeedBench
from longtake.benchmarks._attention.speed_model import SpeedModel, embed
from longtake.benchmarks._attention.wan_shaped import randomise, wan_shaped
from longtake.benchmarks._shared.device import peak_in_work
from longtake.benchmarks._shared.report import Results
from longtake.model.config import DiTConfig
from longtake.model.dit import WanDiT
from longtake.model.memory import shape_only
from longtake.model.vae.taehv import TAEHVConfig

CPU = torch.device("cpu")
TINY = DiTConfig(dim=48, ffn_dim=64, num_heads=2, num_layers=2, text_dim=8)


@pytest.fixture(scope="module")
def tiny() -> SpeedModel:
    return small(torch.float32)


def small(dtype: torch.dtype) -> SpeedModel:
    """Return two layers of Wan's shape at 32x48: 6 tokens per latent frame."""
    narrow = TAEHVConfig(widths=(8, 8, 8, 8))
    return wan_shaped(TINY, (32, 48), device=CPU, dtype=dtype, decoder=narrow)


def test_a_rollouts_prompt_is_merged_once_and_padding_is_what_is_saved() -> None:
    cases = [CASES[name] for name in ("ablation: AnnCA, padding", "all")]
    bench = SpeedBench(embed(), (3,), cases)
    bench.fill(3)
    for case in cases:
        for _ in range(2):
            bench.make(case, keep=False)
    long, short = (bench._prompts[repr(case)] for case in cases)
    assert long.share < 0.05 < short.share <= 1
    assert all(len(of_layer) == 1 for of_layer in long._prompts.values())


def test_what_is_in_work_is_what_is_made_and_not_what_was_there() -> None:
    held = torch.ones(2**20)
    taken = peak_in_work(lambda: (held + 1).sum(), held.device)
    assert held.nbytes <= taken < held.nbytes + 2**12


def test_memory_is_that_of_the_cache_and_of_a_chunk_in_work(tiny: SpeedModel) -> None:
    plan, results = SpeedPlan((6,), 1, cases=("dense", "TempCache")), Results("attention")
    bench = SpeedBench(tiny, (6, 60), [CASES[name] for name in plan.cases])
    bench.fill(6)
    attention.measure_memory(plan, results, bench, 6)
    full, kept = (results.bytes[f"KV cache: {name}, history 6"] for name in plan.cases)
    assert full == bench.full_bytes(6) < bench.caches["full"].bytes
    assert kept == bench.caches["kept"].bytes
    for name in plan.cases:
        all_of_it = results.bytes[f"in work: {name}, history 6"]
        making = results.bytes[f"in work before decoding: {name}, history 6"]
        assert 2**12 < making <= all_of_it


def test_blocks_are_sorted_by_the_codes_of_the_cache_that_they_are_over(tiny: SpeedModel) -> None:
    """Random projection sorts a history's keys in another order than time, whoever coded the keys.

    Both orders read the same number of keys.
    """
    cases = [CASES[f"ablation: {name}"] for name in
             ("AnnSA by time", "AnnSA by LSH", "all by int8", "all by LSH")]  # fmt: skip
    bench = SpeedBench(tiny, (90,), cases)
    bench.fill(90)
    made = [bench.make(case, keep=False) for case in cases]
    for (by_time, x), (by_lsh, y) in (made[:2], made[2:]):
        assert by_time.density is not None and 0 < by_time.density < 1
        assert by_lsh.density == pytest.approx(by_time.density, abs=0.1)
        assert not torch.equal(x, y)
    bench.keep_only([CASES["ablation: all by LSH"]], 90)
    assert bench.caches.keys() == {"full", "window", "merged LSH"}


def test_timed_chunks_leave_no_trace_in_longer_histories(tiny: SpeedModel) -> None:
    names = ("window + sink", "window, int8", "TempCache", "ablation: all by LSH")
    cases = [CASES[name] for name in names]
    bench, other = (SpeedBench(tiny, (60,), cases) for _ in range(2))
    bench.fill(30)
    filled = bench.snapshot()
    for case in cases:
        bench.make(case)
    bench.restore(filled)
    for one in (bench, other):
        one.fill(60)
    for case in cases:
        made, expected = (one.make(case, keep=False)[1] for one in (bench, other))
        assert torch.equal(made, expected)
        assert bench.caches[case.cache].committed == bench.committed == 60


def test_a_model_of_wans_shape_goes_the_embedded_ones_way(tmp_path: Path) -> None:
    results, file, cases = Results("attention"), tmp_path / "speed.json", ("dense", "TempCache")
    attention.measure(SpeedPlan((27, 30), 3, cases=cases), small(torch.bfloat16), results, file)
    saved = json.loads(file.read_text())
    labels = [f"1.3B: {name}, history {history}" for history in (27, 30) for name in cases]
    in_turn = [f"1.3B: in turn: TempCache, history {history}" for history in (27, 30)]
    assert [*saved["samples"]] == labels + in_turn
    assert all(len(saved["samples"][at]) == 3 for at in in_turn)
    assert saved["figures"]["1.3B: TempCache: growth of time by 1,000 frames"]["samples"] == 3
    for at in labels:
        assert len(saved["samples"][at]) == 3
        assert saved["bytes"][f"in work: {at}"] > 0 < saved["bytes"][f"KV cache: {at}"]
    assert {claim["text"].split(": ")[0] for claim in saved["claims"]} == {"1.3B"}
    assert "random weights" in saved["notes"]["1.3B: model"] and saved["accelerator"] is None
    assert saved["figures"]["PSNR: 1.3B: dense, history 30"]["median"] == attention.EQUAL_DB


def test_every_case_runs_on_wans_shape_in_half_precision() -> None:
    model = small(torch.bfloat16)
    bench = SpeedBench(model, (30,), [*CASES.values()])
    bench.fill(30)
    dense = bench.chunk(CASES["dense"])[1]
    assert dense.shape == (9, 3, 32, 48) and dense.dtype == torch.float32
    for name, case in CASES.items():
        made = bench.chunk(case)[1]
        assert made.isfinite().all() and made.shape == dense.shape, name
        assert torch.equal(made, dense) == (name in ("dense", "auto", "dense, long prompt"))


def test_weights_are_never_there_twice() -> None:
    wide = replace(TINY, dim=256, ffn_dim=1024, num_layers=4)
    made: list[WanDiT] = []
    taken = peak_in_work(lambda: made.append(randomise(shape_only(wide, torch.float32), CPU)), CPU)
    held = sum(parameter.nbytes for parameter in made[0].parameters())
    assert held <= taken < 1.1 * held
    assert all(parameter.isfinite().all() for parameter in made[0].parameters())


def test_a_history_that_does_not_fit_leaves_the_bounded_cases(
    tiny: SpeedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, results = ("dense", "window + sink"), Results("attention")
    fits = SpeedBench(tiny, (), []).full_bytes(6)
    monkeypatch.setattr(speed, "free_bytes", lambda device: int(fits / SHARE) + 1)
    attention.measure(SpeedPlan((6, 9), 3, cases=cases), tiny, results, None)
    assert results.samples.keys() == {
        f"1.3B: {one}" for one in
        ("dense, history 6", "window + sink, history 6", "window + sink, history 9")
    }  # fmt: skip
    assert "do not fit" in results.notes["1.3B: history 9"]
    assert "1.3B: history 6" not in results.notes


def test_a_gpu_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ended = CliRunner().invoke(attention.command, ["--device", "cuda"])
    assert ended.exit_code == 1
    assert ended.output.startswith("Error: --device cuda needs an NVIDIA GPU")
    assert ended.output.count("\n") == 1
