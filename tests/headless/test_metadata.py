"""The workflow inside the files of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
from click.testing import CliRunner

from longtake.headless import cli
from longtake.headless.console.options import parse_changes
from longtake.headless.runner import Job, open_host, run_workflow

EXAMPLE = Path(__file__).parents[2] / "example_workflows" / "api" / "1_text_to_stream.json"
SMALL = parse_changes(
    (
        "LongtakePromptTimeline.text=0: a red ball",
        "LongtakeSchedule.steps=1",
        "LongtakeSampler.width=32",
        "LongtakeSampler.height=32",
        "LongtakeSampler.length=1",
    )
)


@pytest.mark.parametrize("disable", [False, True])
def test_files_of_the_command_line_hold_the_workflow_unless_it_is_disabled(
    tmp_path: Path, tiny_demo_folder: Path, monkeypatch: pytest.MonkeyPatch, disable: bool
) -> None:
    with open_host(None, tmp_path, lambda event: None, disable_metadata=disable) as host:
        from longtake.nodes.models import load_demo

        monkeypatch.setattr(load_demo, "DEMO_FOLDER", tiny_demo_folder)
        run_workflow(host, Job(EXAMPLE, SMALL, tmp_path))
    [video] = (tmp_path / "longtake").glob("*.mp4")
    with av.open(video) as container:
        prompt = container.metadata.get("prompt")
    assert (prompt is None) is disable
    if prompt is not None:
        assert json.loads(prompt)["5"]["inputs"]["width"] == 32  # with the overrides


def test_a_batch_on_servers_cannot_disable_their_metadata(tmp_path: Path) -> None:
    options = ["--server", "http://127.0.0.1:1", "--disable-metadata", "--out", str(tmp_path)]
    result = CliRunner().invoke(cli.main, ["batch", str(EXAMPLE), *options])
    assert result.exit_code == 2 and "start the servers with" in result.output
