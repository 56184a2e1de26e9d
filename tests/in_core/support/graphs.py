"""The example workflow and variants of it, in API form."""

from __future__ import annotations

import json
from typing import Any

from longtake.tests.in_core.support.client import Client, Workflow
from longtake.tests.in_core.support.places import ROOT

EXAMPLE = ROOT / "example_workflows" / "api" / "1_text_to_stream.json"
LOAD, TIMELINE, SCHEDULE, SAMPLER, DECODE, PREVIEW, SAVE = "1", "2", "4", "5", "6", "7", "8"
CONTROL = "9"  # of `controlled`
CHUNKS = [1, 2, 3, 4, 5, 6]


def example(*, seed: int, frames: int = 61) -> Workflow:
    """The example, short, with a seed of the test's own."""
    workflow: Workflow = json.loads(EXAMPLE.read_text())
    workflow[SAMPLER]["inputs"].update(seed=seed, length=float(frames), length_unit="frames")
    text = "0: a red ball over green hills at noon\n2: a blue ball over green hills at night"
    workflow[TIMELINE]["inputs"]["text"] = text
    return workflow


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node in API form."""
    return {"class_type": class_type, "inputs": inputs}


def told(client: Client, workflow: Workflow, node_id: str) -> set[str]:
    """The sentences by which a node refuses a workflow; the core repeats one at each widget."""
    errors = client.refusal(workflow)["node_errors"][node_id]["errors"]
    return {error["details"].partition(" - ")[2] for error in errors}


def collected(source: str, collect: str = "images") -> dict[str, Any]:
    """A Collect (Stream) node for the first output of another node."""
    return node("LongtakeCollect", stream=[source, 0], collect=collect, crf=12)


def controlled(seed: int, once: str, control: str, *, chunk: int = 2, text: str = "") -> Workflow:
    """The example without its preview, and with a node that uses a live control in mid-run."""
    workflow = example(seed=seed)
    del workflow[PREVIEW]
    inputs = {"chunk": chunk, "control": control, "text": text, "once": once}
    return {**workflow, CONTROL: node("ControllingOutput", frames=[DECODE, 0], **inputs)}


def named(seed: int, name: str, lines: str = "") -> Workflow:
    """The example without its preview, another file name, and more lines in its timeline."""
    workflow = example(seed=seed)
    del workflow[PREVIEW]
    workflow[SAVE]["inputs"]["filename_prefix"] = f"longtake/{name}"
    workflow[TIMELINE]["inputs"]["text"] += lines
    return workflow
