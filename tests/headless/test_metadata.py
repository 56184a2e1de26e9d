"""The workflow inside the files of the command line."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import av
import pytest
from click.testing import CliRunner

from longtake.headless import cli
from longtake.headless.leases.worker.worker import Worker
from longtake.headless.runner import Job, open_host, run_workflow
from longtake.headless.workflow.overrides import parse_override

EXAMPLE = Path(__file__).parents[2] / "example_workflows" / "api" / "1_text_to_stream.json"
SMALL = tuple(
    parse_override(text)
    for text in (
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


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["batch", str(EXAMPLE), "--server", "http://127.0.0.1:1"], "start the servers with"),
        (["batch", str(EXAMPLE), "--serve", "1"], "give --disable-metadata to each worker"),
        (["worker", "--join", "x:1", "--server", "x:2"], "start that server with"),
    ],
)
def test_where_others_write_the_files_they_must_disable_the_metadata(
    arguments: list[str], remedy: str
) -> None:
    result = CliRunner().invoke(cli.main, [*arguments, "--disable-metadata"])
    assert result.exit_code == 2 and remedy in " ".join(result.output.split())


@pytest.mark.parametrize("disable", [False, True])
def test_a_workers_files_hold_the_workflow_unless_it_is_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disable: bool
) -> None:
    """The setting that the nodes of a worker see, which the test above shows to be obeyed."""
    seen: list[bool] = []

    def stop(worker: Worker) -> int:
        seen.append(importlib.import_module("comfy.cli_args").args.disable_metadata)
        return 0

    monkeypatch.setattr(Worker, "run", stop)
    monkeypatch.setenv("LONGTAKE_KEY", "a-key-of-this-test-0123")
    options = ["--join", "x:1", "--work", str(tmp_path), *["--disable-metadata"][:disable]]
    result = CliRunner().invoke(cli.main, ["worker", *options])
    assert (result.exit_code, seen) == (0, [disable]), result.output
