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

ROWS_PER_SECOND = 50
BYTES_PER_ROW = 5_000


def run(folder: Path, url: str, rows: int) -> float:
    """Run a batch of `rows` rows, and return its seconds."""
    folder.mkdir()
    (folder / "w.json").write_text(json.dumps(WORKFLOW))
    table = "\n".join(json.dumps({"1.text": f"text {row}"}) for row in range(rows))
    (folder / "rows.jsonl").write_text(table)
    files = ["--workflow", str(folder / "w.json"), "--params", str(folder / "rows.jsonl")]
    began = time.monotonic()
    result = CliRunner().invoke(
        cli.main, ["batch", *files, "--server", url, "--out", str(folder / "o")]
    )
    assert result.exit_code == 0, result.output[-2000:]
    assert f"{rows} done, 0 failed" in result.output
    return time.monotonic() - began


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.slow
def test_ten_thousand_rows_on_an_instant_server(tmp_path: Path) -> None:
    with InstantComfyUI() as server:
        run(tmp_path / "few", server.url, 1_000)
        before = peak_bytes()
        assert run(tmp_path / "many", server.url, 10_000) < 10_000 / ROWS_PER_SECOND
    assert peak_bytes() - before < 10_000 * BYTES_PER_ROW


@pytest.mark.slow
def test_a_row_costs_the_same_in_a_longer_batch(tmp_path: Path) -> None:
    with InstantComfyUI() as server:
        run(tmp_path / "warm", server.url, 20)
        short = run(tmp_path / "short", server.url, 100) / 100
        assert run(tmp_path / "long", server.url, 600) / 600 < 2 * short + 1 / ROWS_PER_SECOND
