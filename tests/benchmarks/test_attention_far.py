"""The arithmetic of the far-past bench, and one clip of its recall."""

from __future__ import annotations

import pytest
import torch

from longtake.attention.cache.policy import FullHistory
from longtake.attention.storage.dense import DENSE
from longtake.benchmarks import attention_far
from longtake.benchmarks._attention import far_layer, far_recall
from longtake.benchmarks._attention.far_layer import (
    FAR_PASS,
    LINEAR,
    NEAR_PASS,
    RECALL_PASS,
    RENEWAL,
    WINDOW_PASS,
)
from longtake.benchmarks._attention.far_recall import FarMemory
from longtake.benchmarks._shared.report import Results
from longtake.model.preset import DEMO, DEMO_FOLDER
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import FarReading
from longtake.training.evaluation.kit import load_kit
from longtake.training.evaluation.returns import CameraTurn

SAME = {WINDOW_PASS: 3.0, NEAR_PASS: 3.0, FAR_PASS: 3.0, RECALL_PASS: 3.0, RENEWAL: 0.0,
        LINEAR: 1.0}  # fmt: skip


def test_eight_layers_read_far_in_two_of_four_steps_and_commits_never() -> None:
    rules = far_recall.far_rules(21, 0.25)
    assert far_layer.passes(rules) == (134, 16)
    assert far_layer.passes(MemoryRules()) == (150, 0)
    assert rules.far is not None and [*rules.far.reading_layers(30)] == [*range(29, 14, -2)]


def test_a_chunk_adds_up_from_its_passes() -> None:
    assert attention_far.far_ratio(SAME) == 1
    assert attention_far.far_ratio({**SAME, FAR_PASS: 6.0}) == 1 + 16 * 3 / (150 * 4)
    assert attention_far.far_ratio({**SAME, NEAR_PASS: 6.0}) == 1 + 134 * 3 / (150 * 4)


def test_a_chunk_that_recalls_fetches_once_in_every_layer() -> None:
    assert attention_far.recalled_ratio(SAME) == 1
    assert attention_far.recalled_ratio({**SAME, RECALL_PASS: 6.0}) == 1 + 150 * 3 / (150 * 4)
    assert attention_far.recalled_ratio({**SAME, RENEWAL: 2.0}) == 1 + 30 * 2 / (150 * 4)


def test_the_planned_bytes_are_those_of_all_layers_in_bfloat16() -> None:
    results = Results("attention_far")
    attention_far._bytes(results)  # noqa: SLF001
    frame = 30 * 52 * 12 * 128  # values of one latent frame's keys in one layer
    summaries = 6 * 24 * 12 * 128 * 4  # bytes of one latent frame's
    for way, coded, more in (("read far", 185, 0), ("recalled", 188, 188 * summaries)):
        planned = results.bytes[f"200 latent frames, {way}, main memory"]
        assert planned is not None
        assert 1 <= (planned - more) / (30 * coded * 2 * frame) < 1.05  # int8 and scales
    windows = results.bytes["window of 21, device, without"]
    assert windows is not None and windows >= 2 * 2 * 30 * 21 * frame
    assert all(claim.holds for claim in results.claims) and len(results.claims) == 4


def test_a_renewal_recalls_nine_frames_that_were_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in {"ROWS": 2, "COLUMNS": 3, "HEADS": 1, "HEAD_DIM": 12}.items():
        monkeypatch.setattr(far_layer, name, size)
    bench = far_layer.LayerBench(memory_frames=40)
    before = bench.recall.recalled
    bench.renew()
    assert len(before) == len(bench.recall.recalled) == 9
    assert not {*before} & {*bench.recall.recalled}
    assert len(bench.recall.archive.frames) + bench.recall.policy.newest_frames == 40
    passed = {name: prepare()() for name, prepare in bench.cases().items()}
    for name in (WINDOW_PASS, NEAR_PASS, FAR_PASS, RECALL_PASS):
        output = passed[name]
        assert isinstance(output, torch.Tensor) and output.shape == (1, 18, 1, 12)


def test_the_density_counts_steps_layers_and_frames() -> None:
    """36 frames of history, 12 near: in two steps and 2 of 6 layers a quarter of 24 more."""
    part = 2 / DEMO.steps * 2 / 6
    memories = far_recall.MEMORIES.values()
    densities = [far_recall.density(memory, 36, 6) for memory in memories]
    assert densities == pytest.approx(
        [1, 21 / 36, 21 / 36, 12 / 36, (12 + 24 * part) / 36, (12 + 6 * part) / 36]
    )


@pytest.mark.slow
def test_a_near_window_as_long_as_the_history_is_the_full_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    near = FarMemory(FullHistory(), DENSE, MemoryRules(far=FarReading(99, 0)))
    memories = {"full history": FarMemory(storage=DENSE), "near": near}
    monkeypatch.setattr(far_recall, "MEMORIES", memories)
    figures = far_recall.far_recall(load_kit(DEMO_FOLDER), CameraTurn(6, 3), 0, ["near"])
    assert figures["near"] == pytest.approx(figures["full history"], abs=1e-5)
    assert figures["PSNR: near"] > 35
