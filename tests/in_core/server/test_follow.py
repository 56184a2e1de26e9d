"""A shot that follows another one, both made and saved in one prompt of the real core."""

from __future__ import annotations

import numpy as np
import pytest

from longtake.model.checkpoint import open_checkpoint
from longtake.tests.in_core.support.client import Client
from longtake.tests.in_core.support.graphs import (
    DECODE,
    LOAD,
    PREVIEW,
    SAMPLER,
    SAVE,
    example,
    node,
)
from longtake.tests.in_core.support.outputs import frames_of, saved
from longtake.tests.in_core.support.places import DEMO
from longtake.tests.support.nodes.vace_files import module_state, write_module

FILE = "demo_vace.safetensors"


@pytest.mark.usefixtures("fresh_journal")
def test_both_shots_are_saved_and_found_again(client: Client) -> None:
    config = open_checkpoint(DEMO / "dit.safetensors").recognition.config
    write_module(client.base, module_state(config), FILE)
    workflow = example(seed=5, frames=33)
    follower = {**workflow[SAMPLER]["inputs"], "model": ["20", 0], "control": ["21", 0], "seed": 6}
    workflow |= {
        "20": node("LongtakeLoadVace", model=[LOAD, 0], vace_name=FILE),
        "21": node("LongtakeControlVideo", vae=[LOAD, 2], control_frames=[DECODE, 0],
                   strength="1"),
        "22": node("LongtakeSampler", **follower),
        "23": node("LongtakeVAEDecode", rollout=["22", 0], vae=[LOAD, 2]),
        "24": node("LongtakePreview", frames=["23", 0]),
        "25": node("LongtakeSaveVideo", **{**workflow[SAVE]["inputs"], "frames": ["23", 0],
                                           "filename_prefix": "longtake/follower"}),
    }  # fmt: skip
    assert PREVIEW in workflow  # all four outputs read side by side
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    followed, following = frames_of(saved(client, run)), frames_of(saved(client, run, "25"))
    assert len(followed) == len(following) == 33
    assert np.abs(followed[20].astype(int) - following[20]).mean() > 1
    workflow["25"]["inputs"]["crf"] = 19
    again = client.run(workflow)
    assert again.end[0] == "execution_success", again.end
    assert not again.values("22")  # no chunk was made
