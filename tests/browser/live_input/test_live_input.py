"""Chromium's own test camera, or a tab, in a run of `--watch`; then the same run without any page.

The cases are in camera_cases.mjs and screen_run_cases.mjs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest
import torch
from safetensors.torch import load_file

from longtake.tests.support.server_process import next_match

from ..node import ROOT, lacking, run_cases

RUN = """
import runpy, signal
runpy.run_path("tests/conftest.py")
signal.signal(signal.SIGINT, signal.default_int_handler)
from longtake.headless.cli import main
main()
"""
SHORT = ("LongtakeSampler.length=2", "LongtakeSchedule.steps=1", "LongtakeSampler.cfg=1")


def workflow(folder: Path, source: str, level: float) -> Path:
    """The first example, with a camera or screen that its frames begin from."""
    content = json.loads((ROOT / "example_workflows/api/1_text_to_stream.json").read_text())
    [loader] = [name for name, node in content.items() if "LoadDemo" in node["class_type"]]
    inputs = {"source": source, "url": "", "vae": [loader, 2], "level": level, "take": 1,
              "stall": 30.0}  # fmt: skip
    content["90"] = {"class_type": "LongtakeLiveInput", "inputs": inputs}
    [sampler] = [node for node in content.values() if node["class_type"] == "LongtakeSampler"]
    sampler["inputs"]["known_frames"] = ["90", 0]
    path = folder / "live.json"
    path.write_text(json.dumps(content))
    return path


def command(shot: Path, out: Path, *more: str) -> list[str]:
    changes = [part for change in SHORT for part in ("--set", change)]
    return [sys.executable, "-c", RUN, "run", str(shot), "--out", str(out), "--report",
            str(out / "report.json"), *changes, *more]  # fmt: skip


def latents(out: Path) -> dict[str, torch.Tensor]:
    """What is in the journal, by address: chunks, and what came in for them."""
    rollouts = out / "longtake" / ".rollouts"
    return {path.stem: load_file(path)["latents"] for path in rollouts.glob("*.safetensors")}


def assert_red_and_blue(video: Path) -> None:
    """Hardly redrawn, each picture is that of known_tab.mjs: red beside blue."""
    with av.open(video) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) > 24
    for picture in pictures:
        middle = picture.shape[1] // 2
        left, right = picture[:, :middle].mean((0, 1)), picture[:, middle:].mean((0, 1))
        assert left[0] > left[2] + 30 and right[2] > right[0] + 30


@pytest.mark.slow  # its parts have tests of their own
@pytest.mark.browser
@pytest.mark.skipif(lacking() is not None, reason=lacking() or "")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("source", "level", "cases"),
    [
        ("webcam", 0.7, "live_input/camera_cases.mjs"),
        ("screen", 0.05, "live_input/screen_run_cases.mjs"),
    ],
)
def test_a_browser_drives_a_run_which_then_needs_no_page(
    tmp_path: Path, source: str, level: float, cases: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    shot = workflow(tmp_path, source, level)
    with subprocess.Popen(
        command(shot, tmp_path, "--watch"), cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        try:
            url = next_match(process, r"Watch it at (http://127\.0\.0\.1:\d+/#\S+)")
            results = run_cases(cases, LONGTAKE_URL=url)
            assert not any(results.values()), results
            next_match(process, r"(The player stays at)")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    made = latents(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert re.fullmatch(r"\d+ frames left out", report["versions"]["live_input"])
    assert len(made) == 2 * (report["latent_frames"] // 3)
    if source == "screen":
        assert_red_and_blue(next(Path(file) for file in report["output_files"] if ".mp4" in file))
    [record] = (tmp_path / "longtake" / ".rollouts").glob("*.rollout")
    _, last = [json.loads(line.rpartition(" ")[0]) for line in record.read_text().splitlines()][-2:]
    (tmp_path / "longtake" / ".rollouts" / f"{last[1]}.safetensors").unlink()
    subprocess.run(command(shot, tmp_path), cwd=ROOT, env=environment, check=True, timeout=300)
    again = latents(tmp_path)
    assert again.keys() == made.keys()
    assert all(torch.equal(again[key], made[key]) for key in made)
