"""A batch of many rows costs a row no more than a short one does."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from longtake.benchmarks._attack.instant_comfyui import WORKFLOW, InstantComfyUI
from longtake.headless import cli

SHORTEST_S = 0.02  # processor time of a row that a test can tell from nothing
BYTES_PER_ROW = 5_000


def run(folder: Path, url: str, rows: int) -> float:
    """Run a batch of `rows` rows, and return its seconds of processor time."""
    folder.mkdir()
    (folder / "w.json").write_text(json.dumps(WORKFLOW))
    table = "\n".join(json.dumps({"1.text": f"text {row}"}) for row in range(rows))
    (folder / "rows.jsonl").write_text(table)
    files = ["--workflow", str(folder / "w.json"), "--params", str(folder / "rows.jsonl")]
    began = time.process_time()
    result = CliRunner().invoke(
        cli.main, ["batch", *files, "--server", url, "--out", str(folder / "o")]
    )
    assert result.exit_code == 0, result.output[-2000:]
    assert f"{rows} done, 0 failed" in result.output
    return time.process_time() - began


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.slow
def test_thousands_of_rows_keep_little_in_memory(tmp_path: Path) -> None:
    with InstantComfyUI() as server:
        run(tmp_path / "few", server.url, 500)
        before = peak_bytes()
        run(tmp_path / "many", server.url, 4_000)
    assert peak_bytes() - before < 4_000 * BYTES_PER_ROW


@pytest.mark.slow
def test_a_row_costs_the_same_in_a_longer_batch(tmp_path: Path) -> None:
    with InstantComfyUI() as server:
        run(tmp_path / "warm", server.url, 20)
        short = run(tmp_path / "short", server.url, 100) / 100
        assert run(tmp_path / "long", server.url, 600) / 600 < 2 * short + SHORTEST_S
