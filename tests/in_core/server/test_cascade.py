"""The example `cascade` in the real core: both takes, and the core's own enlarged pictures."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest

from longtake.tests.in_core.support.client import Client, Run, Workflow
from longtake.tests.in_core.support.graphs import collected, node
from longtake.tests.in_core.support.outputs import frames_of, pictures, saved
from longtake.tests.in_core.support.places import ROOT

EXAMPLE = ROOT / "example_workflows" / "community" / "api" / "cascade.json"
SAMPLER, DECODE, PREVIEW, SAVE, MODEL, UPSCALE, FORK = "5", "6", "7", "8", "9", "10", "20"
COUNT = 45  # frames in four chunks, of which 21 end before the fork
pytestmark = pytest.mark.usefixtures("fresh_journal", "upscale_model")


def short(**changes: Any) -> Workflow:
    """The example with a short shot and a lossless file."""
    api: Workflow = json.loads(EXAMPLE.read_text("utf-8"))
    api[SAMPLER]["inputs"] |= {"length": float(COUNT), "length_unit": "frames", **changes}
    api[SAVE]["inputs"] |= {"format": "mkv (lossless)", "sheet_and_report": False}
    return api


def takes(client: Client, run: Run) -> list[dict[str, Any]]:
    """The small and the large take of the preview, once all their frames are encoded."""
    assert run.end[0] == "execution_success", run.end
    [entry] = run.outputs[PREVIEW]["longtake"]
    small = wait_for(client, entry["take"])
    return [small, wait_for(client, small["refined"])]


def wait_for(client: Client, token: str) -> dict[str, Any]:
    """What the server says of a take that is over."""
    while True:
        known: dict[str, Any] = json.loads(client.get(f"/api/longtake/takes/{token}"))
        if known["state"] not in ("waiting", "running", "stopping"):
            return known
        time.sleep(0.05)


def test_the_large_frames_are_those_of_the_cores_own_node(client: Client) -> None:
    api = short()
    api["30"] = collected(DECODE)
    api["31"] = node("ImageUpscaleWithModel", upscale_model=[MODEL, 0], image=["30", 0])
    api["32"] = node("SaveImage", images=["31", 0], filename_prefix="core/cascade")
    run = client.run(api)
    small, large = takes(client, run)
    assert [(take["state"], take["frames"]) for take in (small, large)] == [("done", COUNT)] * 2
    assert (small["width"], small["height"]) == (96, 64)
    assert (large["width"], large["height"], large["refines"]) == (384, 256, small["take"])
    ours, theirs = frames_of(saved(client, run)), pictures(client, run, "32")
    assert len(ours) == len(theirs) == COUNT
    apart = [np.abs(a.astype(int) - b).max() for a, b in zip(ours, theirs, strict=True)]
    assert max(apart) <= 1  # the core cuts off where we round


def test_a_fork_has_both_takes_and_shares_its_large_beginning(client: Client) -> None:
    source = client.run(short())
    before = frames_of(saved(client, source))
    api = short()
    fork = {"action": "fork", "at": 1.4, "more": 5.0, "new_prompt": "", "new_seed": 99,
            "new_guidance": -1.0, "length": 0.0}  # fmt: skip
    api[FORK] = node("LongtakeEditRollout", rollout=[SAMPLER, 0], **fork)
    api[DECODE]["inputs"]["rollout"] = [FORK, 0]
    run = client.run(api)
    small, large = takes(client, run)
    assert [(take["state"], take["frames"]) for take in (small, large)] == [("done", COUNT)] * 2
    after = frames_of(saved(client, run))
    assert np.array_equal(before[:21], after[:21])
    assert np.abs(np.array(before[24:], int) - np.array(after[24:], int)).mean() > 1
