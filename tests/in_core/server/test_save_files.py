"""What Save Video (Stream) writes, dropped on ComfyUI's own canvas; and the names it gets there."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest

from longtake.tests.in_core.support.canvas_runner import drive
from longtake.tests.in_core.support.client import Client, Run
from longtake.tests.in_core.support.graphs import EXAMPLE, SAVE, example
from longtake.tests.in_core.support.places import ROOT

pytestmark = pytest.mark.browser
TYPES = {".mp4": "video/mp4", ".mkv": "video/x-matroska", ".png": "image/png"}  # as browsers give


def example_canvas() -> dict[str, Any]:
    """The canvas form of the example workflow."""
    file = ROOT / "example_workflows" / EXAMPLE.name
    return json.loads(file.read_text(encoding="utf-8"))


def run_with_canvas(client: Client, **inputs: Any) -> Run:
    """Queue the example in a short form, as the page does: with its canvas."""
    workflow = example(seed=19)
    workflow[SAVE]["inputs"] |= inputs
    run = client.run(workflow, canvas=example_canvas())
    assert run.end[0] == "execution_success", run.end
    return run


def drop(entry: dict[str, str]) -> dict[str, Any]:
    """The step that drops an output file."""
    place = {key: entry[key] for key in ("filename", "subfolder", "type")}
    ending = "." + entry["filename"].rpartition(".")[2]
    return {
        "do": "dropFile",
        "path": f"/view?{urlencode(place)}",
        "name": entry["filename"],
        "type": TYPES[ending],
    }


@pytest.mark.parametrize("format", ["mp4 (h264)", "mkv (lossless)", "png frames"])
def test_what_is_saved_brings_its_workflow_back(client: Client, format: str) -> None:
    run = run_with_canvas(client, format=format, filename_prefix="drop/x")
    [sheet] = [
        file for file in run.outputs[SAVE]["longtake_files"] if file["role"] == "contact_sheet"
    ]
    entries = [sheet]
    if format == "png frames":
        [folder] = run.outputs[SAVE]["longtake_frames"]
        entries.append({**folder, "filename": folder["pattern"] % 0})
    elif format == "mp4 (h264)":
        entries += run.outputs[SAVE]["images"]
    ids = {str(node["id"]) for node in example_canvas()["nodes"]}
    for back in drive(client.url, [drop(entry) for entry in entries]):
        assert {str(node["id"]) for node in back["canvas"]["nodes"]} == ids
        assert back["api"] == json.loads(EXAMPLE.read_text(encoding="utf-8"))


def test_the_canvas_does_not_read_the_workflow_of_an_mkv(client: Client) -> None:
    """README and the tooltip say so; if this fails, ComfyUI has learned it."""
    run = run_with_canvas(client, format="mkv (lossless)", filename_prefix="drop/x")
    [entry] = run.outputs[SAVE]["images"]
    [back] = drive(client.url, [drop(entry)])
    assert [node["type"] for node in back["canvas"]["nodes"]] == ["LoadVideo"]


def test_tokens_in_a_file_name_are_replaced_as_in_the_cores_save_video(client: Client) -> None:
    prefix = "%date:yyyy-MM-dd%/%Diffusion-Forcing Sampler.seed%-%width%-%Nobody.x%"
    canvas = example_canvas()
    [node] = [node for node in canvas["nodes"] if node["type"] == "LongtakeSaveVideo"]
    node["widgets_values"] = [
        prefix if value == "longtake/clip" else value for value in node["widgets_values"]
    ]
    [sampler] = [node for node in canvas["nodes"] if node["type"] == "LongtakeSampler"]
    sampler["title"] = "Diffusion-Forcing Sampler"
    [sent] = drive(client.url, [{"do": "prompt", "canvas": canvas}])
    seed = next(
        one["inputs"]["seed"] for one in sent.values() if one["class_type"] == "LongtakeSampler"
    )
    name = sent[str(node["id"])]["inputs"]["filename_prefix"]
    assert name == f"{time.strftime('%Y-%m-%d')}/{seed}-%width%-%Nobody.x%"
