"""`longtake batch` on a real server: killed, resumed, and the same frames as without a server."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from longtake.tests.in_core.support.client import Client
from longtake.tests.in_core.support.graphs import SAMPLER, example

MAIN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
import conftest
from longtake.headless import cli
cli.main()
"""
LIMIT_S = 900

pytest.importorskip("click", reason="the command line needs it, ComfyUI does not")
pytest.importorskip("rich", reason="the command line needs it, ComfyUI does not")


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """The command line in a process of its own, where no ComfyUI is in reach."""
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What it printed, once it has ended well."""
    output, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, output
    return output


def pictures(path: Path) -> np.ndarray:
    """All frames of a video, decoded."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames).astype(np.int16)


def test_two_rows_killed_and_resumed_give_the_headless_frames(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "w.json").write_text(json.dumps(example(seed=0, frames=33)))
    (tmp_path / "rows.csv").write_text(
        f"{SAMPLER}.seed,8.filename_prefix\n31,batch/a\n32,batch/b\n"
    )
    command = ("batch", "--server", client.url, "--workflow", "w.json", "--params", "rows.csv")
    first = start(tmp_path, *command, "--out", "there")
    state = tmp_path / "there" / "batch.jsonl"
    while not (state.exists() and '"queued"' in state.read_text()):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    output = finish(start(tmp_path, *command, "--out", "there"))
    assert "2 done, 0 failed" in output
    with (tmp_path / "there" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frames"] for row in rows] == ["33", "33"]
    assert all(float(row["seconds"]) > 0 for row in rows)
    history = json.loads(client.get("/history"))
    graphs = [run["prompt"][2] for run in history.values()]  # of other tests, too
    queued = [graph[SAMPLER]["inputs"].get("seed") for graph in graphs if SAMPLER in graph]
    assert queued.count(31) == queued.count(32) == 1
    there = (tmp_path / "there" / "results.html").read_text()
    assert there.count("data:image/jpeg;base64,") == 2
    for row, seed in zip(rows, (31, 32), strict=True):
        one = ("run", "w.json", "--set", f"{SAMPLER}.seed={seed}", "--out", f"here{seed}")
        finish(start(tmp_path, *one))
        [here] = (tmp_path / f"here{seed}" / "longtake").glob("*.mp4")
        [video] = [tmp_path / "there" / name for name in row["files"].split() if "mp4" in name]
        apart = np.abs(pictures(here) - pictures(video))
        assert apart.max() <= 8 and apart.mean() < 0.05  # their layers, our layers: rounding
