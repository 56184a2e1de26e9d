"""A drive from end to end: keys in the page of `--watch`, then `--camera` with what was driven.

The model is the demo with an untrained action embedding. The cases are in watched_cases.mjs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longtake.model.preset import DEMO_FOLDER
from longtake.tests.support.model.action_demo import write_action_dit
from longtake.tests.support.server_process import next_match

from ..node import ROOT, lacking, run_cases

FILE = "steering/watched_cases.mjs"
RUN = """
import runpy, signal, sys
from pathlib import Path
runpy.run_path("tests/conftest.py")
signal.signal(signal.SIGINT, signal.default_int_handler)
import longtake.headless.hosts.stand_in as stand_in
plain = stand_in.our_extension
def with_embedding():
    extension = plain()
    from longtake.nodes.models import load_demo
    load_demo.DEMO_FOLDER = model
    return extension
stand_in.our_extension, model = with_embedding, Path(sys.argv.pop(1))
from longtake.headless.cli import main
main()
"""
QUICK = ("LongtakeSchedule.steps=1", "LongtakeSampler.cfg=1")
"""Quick chunks of a shot that lasts until the browser has opened, also beside other tests."""


def demo_with_embedding(folder: Path) -> Path:
    """The demo's files, with random layers for a pan in its transformers."""
    shutil.copytree(DEMO_FOLDER, folder)
    shutil.copy(write_action_dit(folder / "dit.safetensors"), folder / "fast")
    return folder


def workflow(folder: Path) -> Path:
    """The first example, with a camera that stands still."""
    content = json.loads((ROOT / "example_workflows/api/1_text_to_stream.json").read_text())
    content["90"] = {"class_type": "LongtakeCameraPath", "inputs": {"moves": "0: still"}}
    [sampler] = [node for node in content.values() if node["class_type"] == "LongtakeSampler"]
    sampler["inputs"]["camera"] = ["90", 0]
    path = folder / "driven.json"
    path.write_text(json.dumps(content))
    return path


def command(model: Path, shot: Path, out: Path, *more: str, seconds: float = 400.0) -> list[str]:
    length = f"LongtakeSampler.length={seconds}"
    changes = [part for change in (length, *QUICK) for part in ("--set", change)]
    return [sys.executable, "-c", RUN, str(model), "run", str(shot), "--out", str(out),
            "--report", str(out / "report.json"), *changes, *more]  # fmt: skip


def chunks(out: Path) -> dict[str, torch.Tensor]:
    """The latents of all finished chunks, by their addresses."""
    return {
        path.stem: load_file(path)["latents"]
        for path in (out / "longtake" / ".rollouts").glob("*.safetensors")
    }


@pytest.mark.slow  # its parts have tests of their own
@pytest.mark.browser
@pytest.mark.skipif(lacking() is not None, reason=lacking() or "")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.timeout(900)
def test_a_run_is_driven_in_a_browser_and_its_drive_replayed(tmp_path: Path) -> None:
    model, shot = demo_with_embedding(tmp_path / "demo"), workflow(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    live = tmp_path / "live"
    with subprocess.Popen(
        command(model, shot, live, "--watch"), cwd=ROOT, env=environment,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            url = next_match(process, r"Watch it at (http://127\.0\.0\.1:\d+/#\S+)")
            failures = {case: why for case, why in run_cases(FILE, LONGTAKE_URL=url).items() if why}
            assert not failures, failures
            next_match(process, r"(The player stays at)")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    report = json.loads((live / "report.json").read_text())
    lines = [edit.removeprefix("camera ") for edit in report["edits"]]
    assert any("pan left 22.5" in line for line in lines), report["edits"]
    drive = tmp_path / "drive.txt"
    drive.write_text("\n".join(lines), encoding="utf-8")
    again = tmp_path / "again"
    seconds = report["frames"] / 16
    replay = command(model, shot, again, "--camera", str(drive), seconds=seconds)
    subprocess.run(replay, cwd=ROOT, env=environment, check=True, timeout=300)
    replayed, driven = chunks(again), chunks(live)
    assert len(replayed) == report["latent_frames"] // 3 + bool(report["latent_frames"] % 3)
    for key, latents in replayed.items():
        assert torch.equal(latents, driven[key])
