"""ComfyUI's own sampler as a case of the speed bench: a child process with the core in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from longtake.benchmarks._shared import core_process, demo
from longtake.benchmarks._shared.core_process import CoreProcess
from longtake.benchmarks._shared.demo_shot import CHUNK, DemoShot, plain_networks
from longtake.benchmarks._shared.report import Results
from longtake.benchmarks.speed import suite
from longtake.benchmarks.speed.core_case import LATENTS, CoreCase, open_core_case
from longtake.benchmarks.speed.suite import (
    COMPARED,
    CORE,
    FLOAT32_TIMES,
    JUDGED,
    MIN_LEAD,
    OURS,
    SAME,
    SpeedPlan,
    add_figures,
    measure,
    straight_loops,
)
from longtake.benchmarks.speed.watching import BLOCK, FACTOR, FIRST, RATE, WHOLE
from longtake.errors import BadInput, LongtakeError
from longtake.model.checkpoint import Checkpoint, open_checkpoint
from longtake.model.preset import DEMO
from longtake.tests.support.model.camera_demo import demo_with_camera

SHOT = DemoShot(48, 32, 2 * CHUNK)
COMFY = Path(os.environ.get("COMFYUI_PATH", Path.home() / "ComfyUI"))
ANSWERS = """
import json, sys, torch
from safetensors.torch import save_file
for line in sys.stdin:
    request = json.loads(line)
    save_file({"latents": torch.ones(request["latents"], 16, 4, 6)}, request["latents_file"])
    answer = {"whole_s": 2.0, "frames": 21, "processor_s": 1.5, "peak": 1000}
    print(json.dumps(answer), flush=True)
"""


def child(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def test_the_childs_answer_is_a_showing(tmp_path: Path) -> None:
    with child(ANSWERS) as process:
        case = CoreCase(CoreProcess(process, tmp_path))
        showing, peak = case(SHOT), case.peak(SHOT)
        process.kill()
    assert peak == 1000 and len(showing.latents) == SHOT.latents
    assert (tmp_path / LATENTS).exists()
    figures = showing.figures
    assert figures[WHOLE] == figures[FIRST] == figures[BLOCK] == 2.0 and RATE not in figures
    assert figures[FACTOR] == 2.0 / (21 / DEMO.fps)


@pytest.mark.parametrize("log", ["", "noise\nTypeError: no causal model\n"])
def test_a_core_that_ends_says_its_last_line(tmp_path: Path, log: str) -> None:
    (tmp_path / "core.log").write_text(log)
    with (
        child("import sys; sys.stdin.readline()") as process,
        pytest.raises(LongtakeError, match="no causal model" if log else "no output"),
    ):
        CoreCase(CoreProcess(process, tmp_path))(SHOT)


def test_a_folder_without_a_core_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a ComfyUI checkout"), open_core_case(tmp_path):
        raise AssertionError("opened")


def test_the_core_gets_the_demo_without_its_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = dict[str, Checkpoint]()

    def start(comfy: Path, arguments: Sequence[str], log: object) -> subprocess.Popen[str]:
        opened["by the core"] = open_checkpoint(Path(arguments[-1]))
        return child("")

    monkeypatch.setattr(demo, "DEMO_FOLDER", demo_with_camera(tmp_path / "demo"))
    monkeypatch.setattr(core_process, "check_checkout", lambda comfy: "0.21")
    monkeypatch.setattr(core_process, "start_core", start)
    with open_core_case(tmp_path):
        core, shipped = opened["by the core"], open_checkpoint(demo.DEMO_FOLDER / "dit.safetensors")
        assert (shipped.recognition.config.camera, core.recognition.config.camera) == (
            "columns", "none"
        )  # fmt: skip
        assert core.metadata() == shipped.metadata() and not core.recognition.unused
        assert all(torch.equal(core.read(name), shipped.read(name)) for name in core.infos())


def test_without_a_checkout_the_bench_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "plain_networks", lambda: None)
    monkeypatch.setattr(suite, "open_cases", lambda networks, notes: {})
    results = measure(SpeedPlan(sizes=()))
    assert "COMFYUI_PATH" in results.notes[CORE]


def test_the_lead_over_the_core_must_be_a_larger_one() -> None:
    def rounds(seconds: float) -> list[dict[str, float]]:
        return [dict.fromkeys(COMPARED, seconds) for _ in range(3)]

    results = Results("speed")
    add_figures(results, SHOT, {OURS: rounds(1.0), CORE: rounds(1.2)})
    held = {figure: claim.holds for figure, claim in zip(JUDGED, results.claims, strict=True)}
    assert held == {WHOLE: False, FIRST: True} and results.claims[0].limit == MIN_LEAD


@pytest.mark.slow
@pytest.mark.comfy
@pytest.mark.skipif(
    not (COMFY / "main.py").is_file(), reason="no ComfyUI checkout (set COMFYUI_PATH)"
)
def test_the_cores_sampler_makes_the_same_latents() -> None:
    theirs = straight_loops(plain_networks())[FLOAT32_TIMES](SHOT)
    with open_core_case(COMFY) as core:
        showing = core(SHOT)
        peak = core.peak(SHOT)
    assert showing.frames == theirs.frames and peak
    torch.testing.assert_close(showing.latents, theirs.latents, rtol=0, atol=SAME)
