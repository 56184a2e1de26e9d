"""`longtake run --report`: the report of any run that saves a video."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from longtake.headless.cli import main
from longtake.tests.support.headless.real_batches import SMALL, WORKFLOW


def run(folder: Path, *changes: str) -> Result:
    parts = [part for change in (*SMALL, *changes) for part in ("--set", change)]
    places = ["--out", str(folder / "o"), "--report", str(folder / "r.json")]
    return CliRunner().invoke(main, ["run", str(WORKFLOW), *places, *parts])


@pytest.mark.parametrize("beside", ["true", "false"])
def test_a_report_is_written_whether_or_not_one_is_beside_the_video(
    tmp_path: Path, beside: str
) -> None:
    result = run(tmp_path, f"8.sheet_and_report={beside}")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["rollout_id"] and report["frames"] > 0
    assert bool(list((tmp_path / "o").rglob("*_report.json"))) is (beside == "true")


def test_a_dry_run_has_no_report(tmp_path: Path) -> None:
    result = run(tmp_path, "5.plan_only=true")
    assert result.exit_code == 1 and "this run made no report" in result.output
    assert not (tmp_path / "r.json").exists()
